import type { Environment } from '../config.ts'

export type Command = {
  /** What follows its name. */
  usage: string
  /** One sentence, for the list. */
  summary: string
  /** The rest, for `help`. */
  help: string
  /** Answers the exit code. Throws with a message for its reader: it is shown without a stack. */
  run(args: string[], env: Environment): Promise<number>
}

/** The command was called in a way that it does not know. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'UsageError'
  }
}
