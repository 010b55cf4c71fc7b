/** A resource, from its name and fields: every file of it, and what the maps say of it. */
import { FIRST_OWN } from '../../db/migrate.ts'
import { problems } from '../../errors.ts'
import { ownProblems } from '../../own-errors.ts'
import { UsageError } from '../command.ts'
import { addEntry, addImport } from './entries.ts'
import { examples, type ShellMaker } from './examples.ts'
import { type Field, filterOf, indexOf, parseFields } from './fields.ts'
import { migration } from './migration.ts'
import { module } from './module.ts'
import { type Names, namesOf, refuseFieldNames, refuseLong } from './names.ts'
import { type Change, formatted, type Project } from './project.ts'
import { type Maker, sample, test } from './tests.ts'

type Asked = { table: string; fields: string; singular?: string | undefined }

/** What is to be written. Throws UsageError, and has written nothing, for whatever does not fit. */
export const planResource = (project: Project, asked: Asked): Change[] => {
  const names = namesOf(asked.table, asked.singular)
  const fields = parseFields(asked.fields)
  refuseFieldNames(fields)
  refuseLong(namesInSql(names, fields))
  refuseTaken(project, names, fields)
  const codes = takenCodes(names, fields)
  const makers = makersFor(project, fields)

  const made: Record<string, string> = {
    [`sql/migrations/${nextNumber(project)}_${names.table}.sql`]: migration(names, fields),
    [`src/modules/${names.file}.ts`]: module(names, fields, [...new Set(codes.values())]),
    [`tests/samples/${names.file}.ts`]: sample(names, fields, makers),
    [`tests/modules/${names.file}.test.ts`]: test(names, fields, makers),
    [`docs/resources/${names.file}.md`]: examples(names, fields, makers),
  }
  const existing = Object.keys(made).find(project.exists)
  if (existing) throw new UsageError(`${existing} exists: nothing was written`)
  const isNew = (path: string) => path in made
  return Object.entries({ ...made, ...mapsWith(project, names, fields, codes) }).map(([path, text]) => ({
    ...{ path, isNew: isNew(path) },
    text: path.endsWith('.ts') ? formatted(project.root, path, text) : text,
  }))
}

const nextNumber = ({ migrations }: Project): string => {
  const numbers = migrations.map((path) => path.slice('sql/migrations/'.length, 'sql/migrations/'.length + 4))
  const own = numbers.filter((number) => number >= FIRST_OWN)
  const next = own.length === 0 ? Number(FIRST_OWN) : Number(own.at(-1)) + 1
  if (next > 9_999) throw new UsageError('there is no number behind 9999 for a migration')
  return String(next)
}

// What may stand in its way

const namesInSql = ({ table }: Names, fields: readonly Field[]): string[] => [
  ...[table, `${table}_pkey`, `${table}_created`, `${table}_updated`],
  ...fields.flatMap((field) => [
    `${table}_${field.name}_check`,
    ...(field.type.kind === 'ref' ? [`${table}_${field.name}_fkey`] : []),
    ...(filterOf(field) === undefined ? [] : [indexOf(table, field, fields)]),
  ]),
]

const refuseTaken = ({ sql, sources, app, tableOf }: Project, names: Names, fields: readonly Field[]): void => {
  const { table, path, One, Many } = names
  if (tableOf(table) !== undefined) throw new UsageError(`there is a table app.${table} already`)
  const inSql = namesInSql(names, fields)
  const twice = inSql.find((name, at) => inSql.indexOf(name) !== at)
  if (twice) throw new UsageError(`two things would be called ${twice} in the database: take another name for a field`)
  const relation = inSql.find((name) =>
    new RegExp(`\\b(table|index|view|constraint|type|sequence) (app\\.)?${name}\\b`).test(sql),
  )
  if (relation) throw new UsageError(`there is something called ${relation} in the database already`)
  if (new RegExp(`'${path}['/]`).test(app)) throw new UsageError(`there is a path ${path} already`)
  const words = [`list${Many}`, ...['create', 'get', 'replace', 'change', 'delete'].map((verb) => `${verb}${One}`)]
  const word = [One, ...words].find((name) => sources.includes(`'${name}'`))
  if (word) throw new UsageError(`${word} is in the API already: take another name, or --singular NAME`)
}

// What it refers to

type Known = { imports: readonly string[]; expression: string; shell: ShellMaker }

const shellMaker = (path: string, variable: string, body: string, needed: readonly string[] = []): ShellMaker => ({
  variable,
  lines: [
    ...needed,
    `${variable}=$(curl -s "$API/${path}" -H "Authorization: Bearer $ACME" -H 'Content-Type: application/json' \\\n  -d '${body}' | field id)`,
  ],
})

const byRow = (name: string): Pick<Known, 'imports' | 'expression'> => ({
  imports: [`import { ${name} } from './known.ts'`, `import { makeRow } from '../sample.ts'`],
  expression: `await makeRow(person, ${name})`,
})

const projectInShell = shellMaker('projects', 'PROJECT', '{"name": "referred to"}')

/** Tables of the project that a row may belong to, and how tests and examples make a row of each. */
const known: Readonly<Record<string, Known>> = {
  projects: {
    imports: [`import { makeProject } from '../projects.ts'`],
    expression: 'await makeProject(person)',
    shell: projectInShell,
  },
  tasks: {
    ...byRow('tasks'),
    shell: shellMaker('tasks', 'TASK', `{"project_id": "'"$PROJECT"'", "title": "referred to"}`, projectInShell.lines),
  },
  documents: { ...byRow('documents'), shell: shellMaker('documents', 'DOCUMENT', '{"title": "referred to"}') },
  actors: {
    ...byRow('actors'),
    shell: shellMaker('actors', 'ACTOR', '{"kind": "service", "external_id": "referred to"}'),
  },
}

const makersFor = (project: Project, fields: readonly Field[]): ReadonlyMap<string, Maker & ShellMaker> =>
  new Map(
    fields.flatMap(({ name, type, required }) => {
      if (type.kind !== 'ref') return []
      return [[type.table, makerFor(project, { name, table: type.table, required })] as const]
    }),
  )

const makerFor = (project: Project, { name, table, required }: { name: string; table: string; required: boolean }) => {
  const definition = project.tableOf(table)
  if (definition === undefined) throw new UsageError(`the field ${name}: there is no table ${table}`)
  if (!definition.includes('primary key (tenant_id, id)')) {
    throw new UsageError(
      `the field ${name}: ${table} is no table of tenants' rows, so nothing of a tenant refers to it`,
    )
  }
  const ofProject = known[table]
  if (ofProject) return { ...ofProject, ...ofProject.shell }
  const file = table.replaceAll('_', '-')
  if (!project.exists(`tests/samples/${file}.ts`)) {
    const choices = Object.keys(known).join(', ')
    throw new UsageError(
      `the field ${name}: of ${table} this command does not know how tests make one, only of ${choices} and of what it made itself`,
    )
  }
  if (required && !project.exists(`docs/resources/${file}.md`)) {
    throw new UsageError(
      `the field ${name}: docs/resources/${file}.md is missing, which says how one of ${table} is made`,
    )
  }
  return {
    imports: [`import { ${nameIn(project, file)} } from './${file}.ts'`, `import { makeRow } from '../sample.ts'`],
    expression: `await makeRow(person, ${nameIn(project, file)})`,
    ...(required ? ownShellMaker(project, file) : { variable: '', lines: [] }),
  }
}

const nameIn = (project: Project, file: string): string => {
  const name = /^export const (\w+): Sample/m.exec(project.read(`tests/samples/${file}.ts`))?.[1]
  if (!name) throw new UsageError(`tests/samples/${file}.ts exports no Sample`)
  return name
}

/** From the examples of the other resource: its first POST, and what that one needs. */
const ownShellMaker = (project: Project, file: string): ShellMaker => {
  const blocks = [...project.read(`docs/resources/${file}.md`).matchAll(/^```sh\n([\s\S]*?)^```/gm)].map(
    ([, text = '']) => text,
  )
  const [, path, body] = /curl -i "\$API\/([a-z-]+)"[\s\S]*?-d '(.*)'\n$/.exec(blocks[1] ?? '') ?? []
  const needed = [...(blocks[0] ?? '').matchAll(/^\w+=\$\(curl [\s\S]*?\| field id\)$/gm)].map(([line]) => line)
  if (path === undefined || body === undefined) {
    throw new UsageError(`docs/resources/${file}.md does not begin with how one is made, as it came`)
  }
  return shellMaker(path, path.replaceAll('-', '').toUpperCase(), body, needed)
}

// The maps

/** By field, the code of a value that is used already. */
const takenCodes = ({ singular }: Names, fields: readonly Field[]): ReadonlyMap<string, string> =>
  new Map(
    fields
      .filter(({ unique }) => unique)
      .map(({ name }) => {
        const code = `${name}_taken`
        const isOurs = code in problems && !(code in ownProblems) && code !== 'name_taken'
        return [name, isOurs ? `${singular}_${code}` : code]
      }),
  )

const mapsWith = (
  project: Project,
  { table, many, path, file }: Names,
  fields: readonly Field[],
  codes: ReadonlyMap<string, string>,
): Record<string, string> => {
  const edit = (name: string) => ({ name, text: project.read(name) })

  const map = edit('src/own.ts')
  map.text = addEntry(map.name, map.text, 'ownModules', `'${path}': ${many}`)
  map.text = addImport(map.name, map.text, `import { ${many} } from './modules/${file}.ts'`)

  const errors = edit('src/own-errors.ts')
  const add = (to: string, entry: string) => {
    errors.text = addEntry(errors.name, errors.text, to, entry)
  }
  for (const [name, code] of codes) {
    if (!(code in problems))
      add('ownProblems', `${code}: [409, 'This ${name.replaceAll('_', ' ')} is taken in this tenant.']`)
    add('ownConstraints', `${table}_${name}_key: '${code}'`)
  }
  for (const { name, type } of fields) {
    if (type.kind !== 'ref') continue
    const message = `names none of the ${type.table.replaceAll('_', ' ')} of this tenant`
    add('ownFields', `${table}_${name}_fkey: { path: '/${name}', message: '${message}' }`)
  }

  const samples = edit('tests/own.ts')
  samples.text = addEntry(samples.name, samples.text, 'ownSamples', many)
  samples.text = addImport(samples.name, samples.text, `import { ${many} } from './samples/${file}.ts'`)
  return Object.fromEntries([map, errors, samples].map(({ name, text }) => [name, text]))
}
