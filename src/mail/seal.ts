/**
 * Mails as they wait in the database: sealed, since they carry tokens and addresses. The letter as JSON (lib/sealed.ts) under
 * a key derived from ENCRYPTION_KEYS, which the database does not have, about the mail's id and kind.
 *
 * So whoever reads the table learns neither, and whoever changes it can neither send a letter to another address nor have
 * one sent as another kind.
 */
import { randomUUID } from 'node:crypto'
import type { EncryptionKey } from '../config.ts'
import { deriveKeys } from '../lib/derived-keys.ts'
import { seal, unseal } from '../lib/sealed.ts'

export type Letter = {
  /** What it is: an entry of src/mail/letters.ts. */
  kind: string
  to: string
  /** Of whom it is for, as they call themselves. */
  name?: string | undefined
  /** Of what somebody asks: about which tenant, and who asks, as they are called. */
  tenant?: string | undefined
  inviter?: string | undefined
  /** Of a code that was shown: what it was to open. */
  act?: Act | undefined
  /** What the link carries. */
  token?: string | undefined
}

/** What a code is shown for beside a password. */
export type Act = 'signing_in' | 'accepting_invitation' | 'changing_email'

/** As app.sealed_mail. */
export type SealedMail = { id: string; kind: string; keyId: string; sealed: Buffer }

export type MailKeys = {
  seal(letter: Letter): SealedMail
  /** Undefined for what was not sealed by us, was changed, or whose key is not among ours (any more, or yet). */
  open(mail: SealedMail): Letter | undefined
}

export const makeMailKeys = (entries: readonly EncryptionKey[]): MailKeys => {
  const keys = new Map(entries.map(({ id, key }) => [id, deriveKeys([key], 'bulkhead mails')[0]]))
  const [newest] = keys
  if (!newest) throw new Error('mails need at least one entry of ENCRYPTION_KEYS')
  return {
    seal: ({ kind, ...rest }) => {
      const [keyId, key] = newest
      const id = randomUUID()
      return { id, kind, keyId, sealed: seal(key, Buffer.from(JSON.stringify(rest)), `${id} ${kind}`) }
    },
    open: ({ id, kind, keyId, sealed }) => {
      const key = keys.get(keyId)
      const text = key && unseal(key, sealed, `${id} ${kind}`)
      return text === undefined ? undefined : { kind, ...(JSON.parse(text.toString()) as Omit<Letter, 'kind'>) }
    },
  }
}
