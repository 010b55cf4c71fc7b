const units: Readonly<Record<string, number>> = { '': 1, B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 }

/** `512KiB`, `100MiB`, `5GiB`, or a number of bytes; undefined for anything else, and for none. */
export const parseByteSize = (text: string): number | undefined => {
  const [, count, unit = ''] = /^(\d{1,15})(B|KiB|MiB|GiB|TiB)?$/.exec(text) ?? []
  const size = Number(count) * (units[unit] ?? Number.NaN)
  return Number.isSafeInteger(size) && size > 0 ? size : undefined
}
