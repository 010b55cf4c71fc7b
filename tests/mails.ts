/** What the API has written down to be mailed, opened with the keys that it was sealed with. */
import { createSecretKey } from 'node:crypto'
import type pg from 'pg'
import { encryptionKeys } from '../scripts/throwaway-app.ts'
import { type Letter, makeMailKeys } from '../src/mail/seal.ts'

export type WrittenMail = Partial<Letter> & { id: string; kind: string; state: string; user_id: string | null }

const [, id = '', key = ''] = /^([^:]+):(.+)$/.exec(encryptionKeys) ?? []

export const mailKeys = makeMailKeys([{ id, key: createSecretKey(key, 'base64') }])

/** To this address, the oldest first; also what the worker would write first of what was asked for. */
export const mailsTo = async (pool: pg.Pool, address: string): Promise<WrittenMail[]> => {
  await pool.query('select app.take_asked_resets(1000)')
  const { rows } = await pool.query(
    'select id, kind, user_id, key_id, sealed, state from app.mails order by created_at, kind',
  )
  const mails = rows.map(({ key_id: keyId, sealed, ...row }) => {
    const letter = mailKeys.open({ id: row.id, kind: row.kind, keyId, sealed })
    return { ...row, ...letter } as WrittenMail
  })
  return mails.filter(({ to }) => to === address)
}

/** The token of the last mail of a kind to an address. */
export const tokenTo = async (pool: pg.Pool, address: string, kind: string): Promise<string> => {
  const mails = (await mailsTo(pool, address)).filter((mail) => mail.kind === kind && mail.state === 'waiting')
  const token = mails.at(-1)?.token
  if (token === undefined) throw new Error(`there is no ${kind} to ${address}`)
  return token
}
