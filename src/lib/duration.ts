const milliseconds = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

/** `250ms`, `10s`, `5m`, `2h`, `14d` in milliseconds; undefined for anything else, zero included only as `0s`. */
export const parseDuration = (text: string): number | undefined => {
  const [, count, unit] = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text) ?? []
  if (count === undefined || unit === undefined) return undefined
  return Number(count) * milliseconds[unit as keyof typeof milliseconds]
}
