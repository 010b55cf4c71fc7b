/**
 * Whether an Accept header (RFC 9110, 12.5.1) leaves room for one of `types`: the most exact range that names a type
 * decides, and a quality of 0 refuses it. No header, or one we cannot read, accepts everything.
 */
export const accepts = (header: string | undefined, types: readonly string[]): boolean => {
  if (header === undefined || header.trim() === '' || header === '*/*') return true
  const ranges = header.toLowerCase().split(',').map(rangeOf)
  return types.some((type) => qualityOf(type, ranges) > 0)
}

type Range = { name: string; quality: number }

const rangeOf = (text: string): Range => {
  const [name = '', ...parameters] = text.split(';').map((part) => part.trim())
  const quality = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2)
  return { name, quality: quality === undefined || Number.isNaN(Number(quality)) ? 1 : Number(quality) }
}

const qualityOf = (type: string, ranges: Range[]): number => {
  const named = [type, type.replace(/\/.*/, '/*'), '*/*']
  const best = named.map((name) => ranges.find((range) => range.name === name)).find((range) => range !== undefined)
  return best?.quality ?? 0
}
