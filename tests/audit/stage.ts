/** What the tests of seals stand on: a database of their own, a key, entries to seal, and ways to look at what comes of it. */
import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll } from 'vitest'
import { publicKeyOf, type Signer } from '../../src/audit/checkpoint.ts'
import { addKeys } from '../../src/audit/sealer.ts'
import type { Finding } from '../../src/audit/verify.ts'
import { type DatabaseTotals, verifyDatabase } from '../../src/audit/verify-database.ts'
import { makePool } from '../../src/db/pool.ts'
import { type Clone, cloneDatabase } from '../servers.ts'
import { makeSigner, sealAll } from './seals.ts'

export type AuditStage = {
  readonly database: Clone
  readonly superuser: pg.Pool
  /** As app_worker. */
  readonly worker: pg.Pool
  readonly signer: Signer
  readonly acme: string
  readonly globex: string
  /** Makes projects in one transaction of that tenant, an entry each. */
  write(tenantId: string, projects?: number, client?: pg.ClientBase): Promise<void>
  /** Seals what there is to seal. */
  seal(options?: { limit?: number }): Promise<{ seals: number; entries: number }>
  /** What verification as the login that migrates finds. */
  verify(options?: { folder?: string; keys?: Signer[]; tenant?: string }): Promise<Verdict>
}

export type Verdict = DatabaseTotals & { findings: Finding[] }

/** Call once at the top of a test file; what it answers is filled before the first test. */
export function auditStage(): AuditStage {
  const it = { signer: makeSigner() } as { -readonly [K in keyof AuditStage]: AuditStage[K] }
  const closers: (() => Promise<unknown>)[] = []

  beforeAll(async () => {
    it.database = await cloneDatabase()
    closers.push(() => it.database.drop())
    it.superuser = new pg.Pool({ connectionString: it.database.urls.superuser, max: 4 })
    it.superuser.on('error', () => {})
    it.worker = makePool(it.database.urls.worker, { max: 2, waitMs: 5000, name: 'seal test', onError: () => {} })
    closers.push(() => Promise.all([it.superuser.end(), it.worker.end()]))
    const { rows } = await it.superuser.query('select slug, tenant_id from app.tenants')
    it.acme = rows.find(({ slug }) => slug === 'acme').tenant_id
    it.globex = rows.find(({ slug }) => slug === 'globex').tenant_id
    await addKeys(it.worker, [it.signer])
  })
  afterAll(async () => {
    for (const close of closers.reverse()) await close()
  })

  it.write = async (tenantId, projects = 1, client) => {
    const connection = client ?? (await it.superuser.connect())
    try {
      await connection.query('begin')
      await connection.query(`select app.seal($1, 'system', null, 'system', null, 'test', '192.0.2.7')`, [tenantId])
      await connection.query('insert into app.projects (name) select $1 || n from generate_series(1, $2::int) n', [
        `${randomUUID()} `,
        projects,
      ])
      await connection.query('commit')
    } finally {
      if (!client) (connection as pg.PoolClient).release()
    }
  }
  it.seal = ({ limit } = {}) => sealAll(it.worker, it.signer, limit)
  it.verify = async ({ folder, tenant, keys = [it.signer] } = {}) => {
    const client = new pg.Client({ connectionString: it.database.urls.owner })
    await client.connect()
    try {
      const findings: Finding[] = []
      const totals = await verifyDatabase({ client, keys: keys.map(publicKeyOf), folder, tenant }, (each) => {
        findings.push(each)
      })
      return { ...totals, findings }
    } finally {
      await client.end()
    }
  }
  return it
}
