/** Sealing at a word, for tests that need what is sealed, and no worker. */
import { generateKeyPairSync } from 'node:crypto'
import type pg from 'pg'
import type { Signer } from '../../src/audit/checkpoint.ts'
import { sealNext } from '../../src/audit/sealer.ts'
import { until } from '../jobs/stage.ts'

export const makeSigner = (id = 'test-1'): Signer => ({ id, ...generateKeyPairSync('ed25519') })

/**
 * Seals everything that is committed. It waits for transactions of other tests on the same server, in whatever database:
 * what began while they were open is not final before they end.
 */
export const sealAll = async (
  worker: pg.Pool,
  signer: Signer,
  limit = 10_000,
): Promise<{ seals: number; entries: number }> => {
  const total = { seals: 0, entries: 0 }
  await until(async () => {
    const { seals, entries } = await sealNext(worker, signer, limit)
    total.seals += seals
    total.entries += entries
    const { rows } = await worker.query<{ done: boolean }>('select app.audit_seal_lag() is null as done')
    return rows[0]?.done
  }, 120_000)
  return total
}
