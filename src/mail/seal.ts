/**
 * Mails as they wait in the database: sealed, since they carry tokens and addresses. AES-256-GCM (NIST SP 800-38D) under a
 * key derived from ENCRYPTION_KEYS, which the database does not have:
 *
 *   nonce (12 bytes) ‖ ciphertext of the letter as JSON ‖ tag (16 bytes), over the mail's id and kind
 *
 * So whoever reads the table learns neither, and whoever changes it can neither send a letter to another address nor have
 * one sent as another kind.
 */
import { createCipheriv, createDecipheriv, type KeyObject, randomBytes, randomUUID } from 'node:crypto'
import type { EncryptionKey } from '../config.ts'
import { deriveKeys } from '../lib/derived-keys.ts'

export type Letter = {
  /** What it is: an entry of src/mail/letters.ts. */
  kind: string
  to: string
  /** Of whom it is for, as they call themselves. */
  name?: string | undefined
  /** Of an invitation: to which tenant, and by whom, as they are called. */
  tenant?: string | undefined
  inviter?: string | undefined
  /** What the link carries. */
  token?: string | undefined
}

/** As app.sealed_mail. */
export type SealedMail = { id: string; kind: string; keyId: string; sealed: Buffer }

export type MailKeys = {
  seal(letter: Letter): SealedMail
  /** Undefined for what was not sealed by us, was changed, or whose key is not among ours (any more, or yet). */
  open(mail: SealedMail): Letter | undefined
}

const [NONCE, TAG] = [12, 16]

export const makeMailKeys = (entries: readonly EncryptionKey[]): MailKeys => {
  const keys = new Map(entries.map(({ id, key }) => [id, deriveKeys([key], 'bulkhead mails')[0]]))
  const [newest] = keys
  if (!newest) throw new Error('mails need at least one entry of ENCRYPTION_KEYS')
  return {
    seal: ({ kind, ...rest }) => {
      const [keyId, key] = newest
      const id = randomUUID()
      return { id, kind, keyId, sealed: encrypt(key, JSON.stringify(rest), `${id} ${kind}`) }
    },
    open: ({ id, kind, keyId, sealed }) => {
      const key = keys.get(keyId)
      const text = key && decrypt(key, sealed, `${id} ${kind}`)
      return text === undefined ? undefined : { kind, ...(JSON.parse(text) as Omit<Letter, 'kind'>) }
    },
  }
}

const encrypt = (key: KeyObject, text: string, about: string): Buffer => {
  const nonce = randomBytes(NONCE)
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG }).setAAD(Buffer.from(about))
  return Buffer.concat([nonce, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()])
}

const decrypt = (key: KeyObject, sealed: Buffer, about: string): string | undefined => {
  if (sealed.length < NONCE + TAG) return undefined
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE), { authTagLength: TAG })
  decipher.setAAD(Buffer.from(about)).setAuthTag(sealed.subarray(-TAG))
  try {
    return decipher.update(sealed.subarray(NONCE, -TAG), undefined, 'utf8') + decipher.final('utf8')
  } catch {
    return undefined
  }
}
