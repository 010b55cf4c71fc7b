import { spawnSync } from 'node:child_process'
import { existsSync, globSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseEnv } from 'node:util'
import { describe, expect, test } from 'vitest'
import { documents, fencesOf, proseOf, read, root } from './markdown.ts'

// What the documents name exists: files, headings, npm scripts, commands, variables, tests. (What their requests are
// answered, tests/api-examples.test.ts looks at.)

const all = (text: string, pattern: RegExp): string[] => [...text.matchAll(pattern)].map(([, found = '']) => found)

/** `code` in the text, and what a reader is asked to type. */
const codeOf = (markdown: string): string[] => [
  ...all(proseOf(markdown), /`([^`\n]+)`/g),
  ...fencesOf(markdown)
    .filter(({ language }) => language === 'sh')
    .map(({ text }) => text),
]

describe.each(documents)('%s', (document) => {
  const markdown = read(document)
  const code = codeOf(markdown)

  test('links lead to files that exist, and to headings in them', () => {
    const targets = all(proseOf(markdown), /\]\(([^)\s]+)\)/g).filter((target) => !/^(https?|mailto):/.test(target))
    const broken = targets.filter((target) => {
      const [path = '', heading] = target.split('#')
      const file = path === '' ? document : join(dirname(document), path)
      if (!existsSync(join(root, file))) return true
      return heading !== undefined && !headingsOf(read(file)).includes(heading)
    })
    expect(broken).toEqual([])
  })

  test('paths lead to files that exist', () => {
    const folders = /(?:^|[\s'"=])((?:src|sql|tests|scripts|docs|\.ci|\.github)\/[\w./*-]*)/g
    const files = /^([\w.*-]+(?:\/[\w.*-]+)+\.(?:ts|mjs|sql|md|json|yml))$/g
    const paths = code.flatMap((text) => [...all(text, folders), ...all(text, files)])
    expect([...new Set(paths)].filter((path) => !path.startsWith('.data/') && !resolves(path, document))).toEqual([])
  })

  test('npm scripts and commands of the CLI exist', () => {
    const asked = code.flatMap((text) => all(text, /\bnpm (?:run (?:-s )?)?(start\b|test\b|(?<=run (?:-s )?)[\w:]+)/g))
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
    expect(asked.filter((name) => !Object.hasOwn(scripts, name))).toEqual([])

    const commands = code.flatMap((text) => all(text, /\bcli -- (?:help )?([\w-]+)/g))
    expect(commands.filter((name) => !knownCommands().includes(name))).toEqual([])
  })

  test('variables of the environment are in .env.example, or are read by the tests', () => {
    const named = code.flatMap((text) => all(text, /(?<![\w$])([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?!\w)/g))
    const known = Object.keys(parseEnv(read('.env.example')))
    const ofTests = all(read('tests/global-setup.ts'), /\benv\.(TEST_\w+)/g)
    expect([...new Set(named)].filter((name) => ![...known, ...ofTests].includes(name))).toEqual([])
  })

  test('diagrams are well-formed, as far as their form shows', () => {
    const faults = fencesOf(markdown)
      .filter(({ language }) => language === 'mermaid')
      .flatMap(({ text, line }) => faultsOf(text).map((fault) => `the diagram in line ${line}: ${fault}`))
    expect(faults).toEqual([])
  })
})

test('the documents have what these tests look at', () => {
  const texts = documents.map(read).join('\n')
  expect(texts.match(/```mermaid/g)?.length).toBeGreaterThan(3)
  expect(texts.match(/npm run cli -- \w+/g)?.length).toBeGreaterThan(3)
  expect(knownCommands()).toContain('migrate')
})

test('what docs/extending.md says that a file has, it exports', () => {
  const named = [...read('docs/extending.md').matchAll(/`(\w+)` of \[(src\/[\w/.-]+\.ts)\]/g)]

  expect(named.map(([, name]) => name)).toEqual(
    expect.arrayContaining(['range', 'equals', 'between', 'defineJob', 'visitTenants', 'ownJobs', 'ownSchedules']),
  )
  for (const [, name, file = ''] of named) expect(read(file)).toContain(`export const ${name}`)
})

test('what docs/extending.md says to import is there', () => {
  const blocks = all(read('docs/extending.md'), /^```ts\n([\s\S]*?)^```/gm).join('\n')
  const imports = [...blocks.matchAll(/^import \{ (\w+) \} from '\.\/([\w-]+\.ts)'/gm)]

  expect(imports.length).toBeGreaterThan(1)
  for (const [, name, file] of imports) expect(read(`src/jobs/${file}`)).toContain(`export const ${name}`)
})

describe('guarantees', () => {
  const section = /^## Guarantees\n([\s\S]*?)^## /m.exec(read('README.md'))?.[1] ?? ''
  const rows = all(section, /^(\|.*\|)$/gm).slice(2)

  test.each(rows.map((row) => row.split('|').map((cell) => cell.trim())))(
    '%s%s',
    (_edge, claim, enforced, proof = '') => {
      expect(claim).not.toBe('')
      expect(enforced).not.toBe('')
      const proofs = proof.split(';').map((part) => /^\[([^\]]+)\]\(\1\): (".*")$/.exec(part.trim()))
      for (const found of proofs) {
        expect(found, 'a file and the names of its tests').not.toBeNull()
        const [, file = '', names = ''] = found ?? []
        const tests = testsIn(file)
        for (const name of all(names, /"([^"]+)"/g)) expect(tests, file).toContain(name)
      }
    },
  )

  test('are there', () => {
    expect(rows.length).toBeGreaterThan(10)
  })
})

/** Titles as they stand in the source, so those of `test.each` with their `%s`. */
const testsIn = (file: string): string[] =>
  [...read(file).matchAll(/(?:\btest\(|\)\()\s*(?:'([^'\n]+)'|"([^"\n]+)")/g)].map(([, a, b]) => a ?? b ?? '')

/** As GitHub names them. */
const headingsOf = (markdown: string): string[] =>
  all(proseOf(markdown), /^#{1,6} (.+)$/gm).map((heading) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )

/** From the project's folder, or from that of the document. */
const resolves = (path: string, document: string): boolean =>
  [root, join(root, dirname(document))].some((folder) =>
    path.includes('*') ? globSync(path, { cwd: folder }).length > 0 : existsSync(join(folder, path)),
  )

let listed: string[] | undefined
const knownCommands = (): string[] => {
  listed ??= all(
    spawnSync(process.execPath, [join(root, 'src', 'cli.ts')], { encoding: 'utf8' }).stdout,
    /^ {2}([\w-]+) {2}/gm,
  )
  return listed
}

// Diagrams: what Mermaid would refuse, without Mermaid, which needs a browser

const pairs: Readonly<Record<string, string>> = { ')': '(', ']': '[', '}': '{' }

const faultsOf = (diagram: string): string[] => {
  const [first = '', ...lines] = diagram.split('\n').map((line) => line.replace(/%%.*$/, '').trim())
  if (/^flowchart (TB|TD|LR|RL|BT)$/.test(first))
    return [...flowchartFaults(lines), ...blockFaults(lines, /^subgraph\b/)]
  if (first === 'sequenceDiagram') {
    return [...sequenceFaults(lines), ...blockFaults(lines, /^(?:loop|alt|opt|par|critical|break|rect)\b/)]
  }
  return [`it begins with ${JSON.stringify(first)}`]
}

const blockFaults = (lines: string[], opens: RegExp): string[] => {
  let depth = 0
  for (const line of lines) {
    if (opens.test(line)) depth += 1
    if (line === 'end') depth -= 1
    if (depth < 0) return ['an end too many']
  }
  return depth === 0 ? [] : ['a block does not end']
}

const node = String.raw`\w+(?:\[\(".*?"\)\]|\(\[".*?"\]\)|\[".*?"\]|\(".*?"\)|\{".*?"\})?`
const arrow = String.raw`(?:-->|-\.->|==>|---)(?:\|"[^"|]*"\|)?`
const flow = new RegExp(`^${node}(?: & ${node})*(?: ${arrow} ${node}(?: & ${node})*)*$`)

const flowchartFaults = (lines: string[]): string[] =>
  lines
    .filter((line) => line !== '' && line !== 'end' && !/^(?:subgraph \w+\[".*"\]|direction (?:TB|LR))$/.test(line))
    .filter((line) => !flow.test(line) || !isBalanced(line))
    .map((line) => `not a line of a flowchart: ${line}`)

const sequenceFaults = (lines: string[]): string[] => {
  const people = new Set(lines.flatMap((line) => all(line, /^(?:participant|actor) (\w+)(?: as .+)?$/g)))
  const isKnown = (...names: (string | undefined)[]) => names.every((name) => name !== undefined && people.has(name))
  return lines
    .filter((line) => {
      if (line === '' || line === 'end' || line === 'autonumber') return false
      if (/^(?:participant|actor) \w+(?: as .+)?$/.test(line)) return false
      if (/^(?:loop|alt|else|opt|par|and|critical|break|rect)\b/.test(line)) return false
      const [, from, to] = /^(\w+)-{1,2}(?:>>|\)|x)[+-]?(\w+): \S[^;#]*$/.exec(line) ?? []
      if (from !== undefined) return !isKnown(from, to)
      const [, over = ''] = /^Note (?:over|left of|right of) (\w+(?:,\w+)?): \S[^;#]*$/.exec(line) ?? []
      return !isKnown(...over.split(','))
    })
    .map((line) => `not a line of a sequence: ${line}`)
}

const isBalanced = (line: string): boolean => {
  const open: string[] = []
  for (const sign of line.replace(/"[^"]*"/g, '')) {
    if ('([{'.includes(sign)) open.push(sign)
    else if (sign in pairs && open.pop() !== pairs[sign]) return false
  }
  return open.length === 0 && (line.match(/"/g)?.length ?? 0) % 2 === 0
}
