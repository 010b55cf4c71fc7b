/** The end of a tenant: a text that says what was erased, signed with the audit log's key. */
import type pg from 'pg'
import { statement } from '../db/pool.ts'
import { type Signer, signText } from './checkpoint.ts'

/**
 * Erases what is left of a tenant, its own row, in one transaction with its certificate. Throws a DatabaseError: BH016 when
 * other rows are left, or it is not to be erased; BH015 when it is on legal hold.
 */
export const certifyErasure = async (pool: pg.Pool, tenantId: string, signer: Signer): Promise<void> => {
  const client = await pool.connect()
  let broken: Error | undefined
  try {
    await client.query('begin')
    const { rows } = await client.query<{ text: string }>(
      statement('select app.erasure_statement($1) as text', [tenantId]),
    )
    const signature = signText(rows[0]?.text ?? '', signer)
    await client.query(statement('select app.finish_erasure($1, $2, $3)', [tenantId, signer.id, signature]))
    await client.query('commit')
  } catch (error) {
    await client.query('rollback').catch((failure) => {
      broken = failure
    })
    throw error
  } finally {
    client.release(broken)
  }
}
