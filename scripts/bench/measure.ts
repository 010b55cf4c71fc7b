export type Figures = { perSecond: number; p50: number; p99: number; failed: number }

/** Runs `work` over and over, `concurrency` at once, for so many seconds. Latencies in milliseconds. */
export async function measure(work: () => Promise<unknown>, concurrency: number, seconds: number): Promise<Figures> {
  const latencies: number[] = []
  let failed = 0
  const start = performance.now()
  const end = start + seconds * 1000
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      for (let from = performance.now(); from < end; from = performance.now()) {
        await work().catch(() => failed++)
        latencies.push(performance.now() - from)
      }
    }),
  )
  const elapsed = (performance.now() - start) / 1000
  latencies.sort((a, b) => a - b)
  const at = (share: number) => latencies[Math.floor((latencies.length - 1) * share)] ?? 0
  return { perSecond: latencies.length / elapsed, p50: at(0.5), p99: at(0.99), failed }
}

export const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0
