/** What the scripts say while they work: one line per step with the time it took, and one line when they refuse. */

/** A reason to stop that its reader can act on: printed as one line, without a stack. */
export class Refusal extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'Refusal'
  }
}

export const seconds = (since: number): string => `${((performance.now() - since) / 1000).toFixed(1)} s`

/** Runs one step: its name at once on a terminal (with the seconds while it lasts), the time it took at the end. */
export const step = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
  const began = performance.now()
  const out = process.stdout
  const live = out.isTTY === true
  if (live) out.write(`  ${name} …`)
  else out.write(`  ${name} …\n`)
  const ticker = live
    ? setInterval(() => out.write(`\r  ${name} … ${Math.round((performance.now() - began) / 1000)} s`), 1000)
    : undefined
  try {
    const result = await work()
    out.write(`${live ? '\r\u001b[2K' : ''}  ${name}: ${seconds(began)}\n`)
    return result
  } catch (error) {
    if (live) out.write('\n')
    throw error
  } finally {
    clearInterval(ticker)
  }
}
