import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto'

/**
 * A password as PostgreSQL stores it: a SCRAM-SHA-256 verifier (RFC 5802, 3; RFC 7677; the text form of RFC 5803), so
 * that the clear password reaches neither the server nor its log.
 * Throws for anything but printable ASCII: drivers prepare other characters differently (SASLprep), and one that does
 * it otherwise than the server could never log in.
 */
export function scramVerifier(password: string, { salt = randomBytes(16), iterations = 4096 } = {}): string {
  if (!/^[\x20-\x7e]+$/.test(password)) throw new Error('a database password is made of printable ASCII characters')
  const salted = pbkdf2Sync(password, salt, iterations, 32, 'sha256')
  const hmac = (text: string) => createHmac('sha256', salted).update(text).digest()
  const storedKey = createHash('sha256').update(hmac('Client Key')).digest('base64')
  return `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${storedKey}:${hmac('Server Key').toString('base64')}`
}
