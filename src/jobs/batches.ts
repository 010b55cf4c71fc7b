/**
 * Does `work` until it does less than `limit` at once, so that no transaction is long: it is told how many at most, and answers
 * how many it was. Answers how many they were in all; throws between two batches once `signal` is aborted.
 */
export const inBatches = async (
  signal: AbortSignal,
  limit: number,
  work: (limit: number) => Promise<number>,
): Promise<number> => {
  let all = 0
  for (let last = limit; last >= limit; all += last) {
    signal.throwIfAborted()
    last = await work(limit)
  }
  return all
}
