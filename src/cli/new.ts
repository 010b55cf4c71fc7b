/** A resource of one's own, in the project's style: migration, module, tests, examples and lines on the maps. */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Command, UsageError } from './command.ts'
import { KINDS } from './new/fields.ts'
import { openProject, uncommitted, writeAll } from './new/project.ts'
import { planResource } from './new/resource.ts'

const root = join(import.meta.dirname, '..', '..')

export const newCommand: Command = {
  usage: 'resource NAME --fields "FIELD …" [--singular NAME] [--uncommitted]',
  summary: 'Writes a resource of your own: its migration, module, tests, examples, and its lines on the maps.',
  help: `For example:
  npm run cli -- new resource invoices --fields "number:text!,unique amount_minor:int8! status:draft|sent|paid project_id:ref(projects)"
NAME is plural, in snake_case. A field is name:type, with ! where it is required, and then ,unique where a value is used once
per tenant. Types: ${KINDS}.
  --singular NAME  what one of them is called, where no rule knows
  --uncommitted    also where the maps have changes that git could not bring back
All files are written, or none. Then: npm run generate, npm test. docs/extending.md says what else there is to it.`,

  async run(args) {
    const { kind, table, fields, singular, dirty } = parse(args)
    if (kind !== 'resource') throw new UsageError(`new makes a resource, and no ${JSON.stringify(kind)}`)
    const changes = planResource(openProject(root), { table, fields, singular })
    const edited = changes.filter(({ isNew }) => !isNew).map(({ path }) => path)
    const changed = dirty ? [] : uncommitted(root, edited)
    if (changed.length > 0) {
      throw new UsageError(
        `${changed.join(', ')} would be written to and has changes: commit them, or say --uncommitted`,
      )
    }
    writeAll(root, changes)
    for (const { path, isNew } of changes) console.log(`${isNew ? 'wrote  ' : 'changed'}  ${path}`)
    console.log('\nNow: npm run generate, then npm run check and npm test.')
    return 0
  },
}

const parse = (args: string[]) => {
  const text = { type: 'string' } as const
  const options = { fields: text, singular: text, uncommitted: { type: 'boolean' } } as const
  try {
    const { values, positionals } = parseArgs({ args, options, strict: true, allowPositionals: true })
    const [kind = '', table, ...more] = positionals
    if (table === undefined || more.length > 0)
      throw new UsageError('name one resource: new resource NAME --fields "…"')
    if (values.fields === undefined) throw new UsageError(`--fields is missing: "name:type …", of ${KINDS}`)
    return { kind, table, fields: values.fields, singular: values.singular, dirty: values.uncommitted ?? false }
  } catch (error) {
    throw error instanceof UsageError ? error : new UsageError((error as Error).message)
  }
}
