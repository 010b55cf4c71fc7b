type Options = {
  /** How many run at once. */
  places: number
  /** How many more may wait, in order; who finds that many in line is not run. */
  waiting?: number
  /** How long one waits at most, in milliseconds; whose turn has not come by then is not run. */
  waitMs?: number | undefined
  /** What such a task fails with. */
  refuse?: () => Error
}

export type TakeTurn = <T>(task: () => Promise<T>) => Promise<T>

/** Lets `places` tasks run at once; whoever comes after them waits in line. */
export const makeTurns = ({ places, waiting = Infinity, waitMs, refuse = refused }: Options): TakeTurn => {
  const line = new Set<() => void>()
  let running = 0

  const comesUp = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const timer = waitMs === undefined ? undefined : setTimeout(giveUp, waitMs)
      function giveUp() {
        line.delete(next)
        reject(refuse())
      }
      function next() {
        clearTimeout(timer)
        line.delete(next)
        resolve()
      }
      line.add(next)
    })

  return async (task) => {
    if (running < places) running += 1
    else if (line.size < waiting) await comesUp()
    else throw refuse()
    try {
      return await task()
    } finally {
      // whoever ends hands over its place, so that nobody who comes later slips in between
      const [next] = line
      if (next) next()
      else running -= 1
    }
  }
}

/** The same for each name apart. Of a name under which nothing runs nothing is kept. */
export const makeNamedTurns = (options: Options) => {
  const named = new Map<string, { takeTurn: TakeTurn; tasks: number }>()

  return async <T>(name: string, task: () => Promise<T>): Promise<T> => {
    const turns = named.get(name) ?? { takeTurn: makeTurns(options), tasks: 0 }
    named.set(name, turns)
    turns.tasks += 1
    try {
      return await turns.takeTurn(task)
    } finally {
      turns.tasks -= 1
      if (turns.tasks === 0) named.delete(name)
    }
  }
}

const refused = () => new Error('too many at once')
