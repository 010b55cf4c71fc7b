/**
 * Runs tasks, so many at once, while so many others wait their turn, in order. A task that finds the queue full is not
 * run: it fails with what `refuse` makes.
 */
export const bounded = ({ atOnce, waiting, refuse }: { atOnce: number; waiting: number; refuse: () => Error }) => {
  const queue: (() => void)[] = []
  let running = 0

  return async <T>(task: () => Promise<T>): Promise<T> => {
    if (running >= atOnce) {
      if (queue.length >= waiting) throw refuse()
      // whoever ends hands over its place, so that nobody who comes later slips in between
      await new Promise<void>((resolve) => queue.push(resolve))
    } else {
      running += 1
    }
    try {
      return await task()
    } finally {
      const next = queue.shift()
      if (next) next()
      else running -= 1
    }
  }
}
