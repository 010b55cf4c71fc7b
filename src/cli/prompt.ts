/** What a command asks whoever runs it. Secrets come from a terminal without echo, or from standard input: never as an argument. */
import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { UsageError } from './command.ts'

/** A line that is typed and seen. Throws UsageError where there is no terminal: `instead` says what to give. */
export const ask = async (question: string, instead: string): Promise<string> => {
  if (!process.stdin.isTTY) throw new UsageError(instead)
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return (await lines.question(question)).trim()
  } finally {
    lines.close()
  }
}

/** Typed twice without echo; or the first line of standard input, when that is no terminal. */
export const askNewPassword = async (): Promise<string> => {
  if (!process.stdin.isTTY) return firstLine()
  const password = await askSilently('Password: ')
  if ((await askSilently('The same again: ')) !== password) throw new UsageError('the two are not the same')
  return password
}

const firstLine = async (): Promise<string> => {
  for await (const line of createInterface({ input: process.stdin })) return line
  throw new UsageError('the password is read from standard input, and there was nothing')
}

const askSilently = async (question: string): Promise<string> => {
  process.stderr.write(question)
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input: process.stdin, output: nowhere, terminal: true })
  // with a terminal readline takes Ctrl-C for itself
  lines.on('SIGINT', () => process.exit(130))
  try {
    return await lines.question('')
  } finally {
    lines.close()
    process.stderr.write('\n')
  }
}
