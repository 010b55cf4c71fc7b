export type Count = { current: number; ttlMs: number }

type Window = { current: number; endsAt: number }

/**
 * Counts by key in windows of fixed length. Holds at most `capacity` keys: beyond it the oldest window is forgotten, so
 * that a flood from countless addresses costs accuracy and not memory.
 */
export const makeFixedWindow = ({ capacity = 100_000, now = Date.now } = {}) => {
  const windows = new Map<string, Window>()

  /** Counts one more; what remains of the window is in `ttlMs`. */
  return (key: string, lengthMs: number): Count => {
    const at = now()
    let window = windows.get(key)
    if (window === undefined || window.endsAt <= at) {
      windows.delete(key) // so that it is the youngest again
      if (windows.size >= capacity) windows.delete(windows.keys().next().value as string)
      window = { current: 0, endsAt: at + lengthMs }
      windows.set(key, window)
    }
    window.current += 1
    return { current: window.current, ttlMs: window.endsAt - at }
  }
}
