import { createCipheriv, createDecipheriv, type KeyObject, randomBytes } from 'node:crypto'

const [NONCE, TAG] = [12, 16]

/**
 * AES-256-GCM (NIST SP 800-38D): nonce (12 bytes) ‖ ciphertext ‖ tag (16 bytes). `about` says whose it is and what; it is
 * not kept, and what was sealed about something else does not open.
 */
export const seal = (key: KeyObject, plain: Buffer, about: string): Buffer => {
  const nonce = randomBytes(NONCE)
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG }).setAAD(Buffer.from(about))
  return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

/** Undefined for what was not sealed with this key about this, or was changed. */
export const unseal = (key: KeyObject, sealed: Buffer, about: string): Buffer | undefined => {
  if (sealed.length < NONCE + TAG) return undefined
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE), { authTagLength: TAG })
  decipher.setAAD(Buffer.from(about)).setAuthTag(sealed.subarray(-TAG))
  try {
    return Buffer.concat([decipher.update(sealed.subarray(NONCE, -TAG)), decipher.final()])
  } catch {
    return undefined
  }
}
