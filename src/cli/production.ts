/** What is not done in production, or not without being sure. */
import { UsageError } from './command.ts'

type Where = { production: boolean }

/** Throws UsageError in production: what this makes would sign somebody in. */
export const mustBeDevelopment = (command: string, { production }: Where): void => {
  if (production) throw new UsageError(`${command} is for development: NODE_ENV is production`)
}

/** Throws UsageError in production without --yes. */
export const mustBeSure = (command: string, { production }: Where, yes: boolean | undefined): void => {
  if (production && !yes) throw new UsageError(`${command} takes something away, and NODE_ENV is production: add --yes`)
}
