const AROUND = 200

/** Where two answers part: the lines that only one of them has, from a little before the first character that differs. */
export const parting = (one: string, other: string): [string, string] => {
  const [lines, others] = [one.split('\n'), other.split('\n')]
  const only = (some: string[], rest: string[]) => some.filter((line) => !rest.includes(line)).join(' ')
  const [mine, theirs] = [only(lines, others), only(others, lines)]
  let same = 0
  while (same < mine.length && mine[same] === theirs[same]) same++
  const from = Math.max(0, same - AROUND)
  const cut = (text: string) => (from > 0 && text !== '' ? '…' : '') + text.slice(from, from + 2 * AROUND)
  return [cut(mine), cut(theirs)]
}
