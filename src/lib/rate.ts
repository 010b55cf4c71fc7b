import { parseDuration } from './duration.ts'

/** So many requests in so many seconds. */
export type Rate = { quota: number; seconds: number }

/** `100/h`, `10/m`, `5/30s`; undefined for anything else. */
export const parseRate = (text: string): Rate | undefined => {
  const [, count, window] = /^([1-9]\d{0,8})\/(\d*[smhd])$/.exec(text) ?? []
  if (count === undefined || window === undefined) return undefined
  const length = parseDuration(/^\d/.test(window) ? window : `1${window}`)
  return length === undefined || length === 0 ? undefined : { quota: Number(count), seconds: length / 1_000 }
}
