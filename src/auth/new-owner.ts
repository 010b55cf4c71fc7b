/** What somebody is mailed whom an operator makes the first owner of a tenant. */
import type { MailKeys, SealedMail } from '../mail/seal.ts'
import { newMailedToken } from './mailed-tokens.ts'

/**
 * The hash of a token to choose a password with, how long it is good (an interval), the mail that carries it, for somebody
 * new, and the one that does not, for who has an account. Only one of them is sent: the database knows which.
 */
export type NewOwner = (person: { email: string; name: string }) => {
  token: Buffer
  lifetime: string
  welcome: SealedMail
  notice: SealedMail
}

export const makeNewOwner =
  ({ mails, passwordResetMs }: { mails: MailKeys; passwordResetMs: number }): NewOwner =>
  ({ email, name }) => {
    const { token, hash } = newMailedToken()
    return {
      token: hash,
      lifetime: `${passwordResetMs} milliseconds`,
      welcome: mails.seal({ kind: 'tenant_welcome', to: email, name, token }),
      notice: mails.seal({ kind: 'tenant_notice', to: email, name }),
    }
  }
