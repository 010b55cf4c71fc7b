import type { Answer } from './wire.ts'

/**
 * An answer as it is compared with another one: its status, its headers and its body, without what a clock made. The length
 * of a body that is here says nothing new. `instead` are headers as they are to be compared.
 */
export const asText = ({ status, headers, body }: Answer, instead: Readonly<Record<string, string>>): string => {
  const { date, 'content-length': length, 'retry-after': retry, ...rest } = headers
  // of a limit it counts down; elsewhere it is a number of ours
  const waits = retry === undefined ? {} : { 'retry-after': status === 429 ? '…' : retry }
  const lines = Object.entries({ ...rest, ...waits, ...instead }).map((line) => line.join(': '))
  return `${status}\n${lines.join('\n')}\n\n${body}`
}
