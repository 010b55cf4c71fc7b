/** Where two answers part, line by line. */
export const parting = (one: string, other: string): [string, string] => {
  const [lines, others] = [one.split('\n'), other.split('\n')]
  const only = (some: string[], rest: string[]) =>
    some
      .filter((line) => !rest.includes(line))
      .join(' ')
      .slice(0, 400)
  return [only(lines, others), only(others, lines)]
}
