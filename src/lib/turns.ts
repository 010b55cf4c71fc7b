/** Lets `places` run at once; whoever comes after them waits in line. */
export const makeTurns = (places: number) => {
  let free = places
  const line: (() => void)[] = []

  return async <T>(work: () => Promise<T>): Promise<T> => {
    if (free > 0) free -= 1
    else await new Promise<void>((next) => line.push(next))
    try {
      return await work()
    } finally {
      const next = line.shift()
      if (next) next()
      else free += 1
    }
  }
}
