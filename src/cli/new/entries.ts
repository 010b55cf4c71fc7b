/** Adds to the maps that a clone keeps of its own: tables and lists in plain TypeScript, which people edit as well. */
import { UsageError } from '../command.ts'

/** `text` with another entry at the end of `export const name … = { … }`, or of such a list. */
export const addEntry = (file: string, text: string, name: string, entry: string): string => {
  const start = new RegExp(`^export const ${name}\\b[^=]*= [{[]`, 'm').exec(text)
  if (!start) throw new UsageError(`${file} has no \`export const ${name} = …\` as it came: add by hand, or restore it`)
  const from = start.index + start[0].length
  const end = closing(text, from)
  const inner = text.slice(from, end).trim()
  return `${text.slice(0, from)}\n${inner}${inner === '' || inner.endsWith(',') ? '' : ','}\n${entry},\n${text.slice(end)}`
}

/** `text` with another import, before its first; the formatter sorts them. */
export const addImport = (file: string, text: string, line: string): string => {
  const first = /^import /m.exec(text)
  if (!first) throw new UsageError(`${file} imports nothing, and is not as it came: add by hand, or restore it`)
  return `${text.slice(0, first.index)}${line}\n${text.slice(first.index)}`
}

/** Where the bracket that is open at `from` closes; texts and comments do not count. */
const closing = (text: string, from: number): number => {
  let depth = 1
  const parts = /'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`|\/\/.*|\/\*[\s\S]*?\*\/|[{}[\]()]/g
  parts.lastIndex = from
  for (let found = parts.exec(text); found; found = parts.exec(text)) {
    const [part] = found
    if ('{[('.includes(part)) depth += 1
    if ('}])'.includes(part)) depth -= 1
    if (depth === 0) return found.index
  }
  throw new UsageError('a bracket does not close')
}
