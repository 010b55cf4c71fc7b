/** What the tests of the documents read out of Markdown: its fenced blocks, and what stands between them. */
import { globSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export const root = join(import.meta.dirname, '..')

/** What a clone writes of its own resources: each in a file, with requests that a test sends. */
export const ownExamples: readonly string[] = globSync('docs/resources/*.md', { cwd: root })
  .filter((path) => !path.endsWith('README.md'))
  .sort()

/** Every document that people read, by its path. */
export const documents: readonly string[] = [
  'README.md',
  'CHANGELOG.md',
  'src/README.md',
  'sql/README.md',
  ...readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
  'docs/resources/README.md',
  ...ownExamples,
]

export const read = (document: string): string => readFileSync(join(root, document), 'utf8')

/** `line` is that of its opening fence, from 1. */
export type Fence = { language: string; text: string; line: number }

/** Throws when the last block does not end. */
export const fencesOf = (markdown: string): Fence[] => {
  const fences: Fence[] = []
  let open: (Omit<Fence, 'text'> & { lines: string[] }) | undefined
  for (const [index, line] of markdown.split('\n').entries()) {
    const language = /^```(.*)$/.exec(line)?.[1]
    if (language === undefined) open?.lines.push(line)
    else if (open) {
      fences.push({ language: open.language, line: open.line, text: open.lines.join('\n') })
      open = undefined
    } else open = { language: language.trim(), line: index + 1, lines: [] }
  }
  if (open) throw new Error(`the block that begins in line ${open.line} does not end`)
  return fences
}

/** The document without its blocks; lines keep their numbers. */
export const proseOf = (markdown: string): string =>
  markdown.replace(/^```.*\n[\s\S]*?^```$/gm, (block) => block.replace(/[^\n]/g, ''))
