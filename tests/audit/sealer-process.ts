/** A sealer in a process of its own, for tests that kill it. */
import { createPrivateKey, createPublicKey } from 'node:crypto'
import { startSealer } from '../../src/audit/sealer.ts'
import { makePool } from '../../src/db/pool.ts'
import { makeLogger } from '../../src/log.ts'

const { WORKER_URL = '', SIGNER_ID = '', SIGNER = '' } = process.env
const privateKey = createPrivateKey(SIGNER)
const pool = makePool(WORKER_URL, { max: 1, waitMs: 5_000, name: 'sealer process', onError: () => {} })
startSealer({
  pool,
  signers: [{ id: SIGNER_ID, privateKey, publicKey: createPublicKey(privateKey) }],
  intervalMs: 5,
  sink: undefined,
  log: makeLogger({ logLevel: 'silent' }),
})
process.send?.('ready')
