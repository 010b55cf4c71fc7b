/**
 * What the audit log costs: for each row that is written, for a tenant that is busy, until what was written is sealed, and
 * to verify. Subject and control take turns, since machines are shared and noisy.
 */
import { generateKeyPairSync } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { publicKeyOf, type Signer } from '../../src/audit/checkpoint.ts'
import { addKeys, sealNext, startSealer } from '../../src/audit/sealer.ts'
import { verifyDatabase } from '../../src/audit/verify-database.ts'
import { verifyExport } from '../../src/audit/verify-export.ts'
import { makePool } from '../../src/db/pool.ts'
import { makeLogger } from '../../src/log.ts'
import { measure, median } from './measure.ts'

type Options = { ownerUrl: string; workerUrl: string; seconds: number; turns: number }

export const benchAudit = async ({ ownerUrl, workerUrl, seconds, turns }: Options): Promise<void> => {
  const owner = new pg.Pool({ connectionString: ownerUrl, max: 16 })
  const worker = makePool(workerUrl, { max: 1, waitMs: 10_000, name: 'bench sealer', onError: () => {} })
  const signer: Signer = { id: 'bench', ...generateKeyPairSync('ed25519') }
  try {
    await addKeys(worker, [signer])
    const { rows } = await owner.query<{ id: string }>('select tenant_id as id from app.tenants order by slug')
    const tenants = rows.map(({ id }) => id)

    console.log(`\naudit: ${await costOfARow(owner, tenants, turns)}`)
    console.log(`busy tenant, transactions of 10 ms: ${await throughput(owner, tenants, seconds, turns)}`)
    console.log(
      `from writing to sealed, under load: ${await lag(owner, worker, signer, tenants, Math.max(10, seconds * 5))}`,
    )
    for (const line of await verification(owner, ownerUrl, worker, signer, tenants)) console.log(line)
  } finally {
    await Promise.all([owner.end(), worker.end()])
  }
}

const enter = `select app.seal($1, 'system', null, 'owner', null, 'bench', '192.0.2.7')`
/** For statements as the owner: the audit triggers of the projects, or none. */
export const auditTriggers = (enabled: boolean): string =>
  `alter table app.projects ${['insert', 'update', 'delete']
    .map((kind) => `${enabled ? 'enable always' : 'disable'} trigger audit_${kind}`)
    .join(', ')}`

/** Rows of one statement, in a transaction that is rolled back, with the audit triggers and without them. */
const costOfARow = async (owner: pg.Pool, [tenant]: string[], turns: number): Promise<string> => {
  const rows = 5_000
  const write = async (audited: boolean): Promise<number> => {
    const client = await owner.connect()
    try {
      await client.query('begin')
      if (!audited) await client.query(auditTriggers(false))
      await client.query(enter, [tenant])
      const from = performance.now()
      await client.query(
        `insert into app.projects (name) select gen_random_uuid()::text from generate_series(1, $1::int)`,
        [rows],
      )
      return ((performance.now() - from) * 1000) / rows
    } finally {
      await client.query('rollback')
      client.release()
    }
  }
  await write(true)
  const differences: number[] = []
  for (let turn = 0; turn < turns * 3; turn++) differences.push((await write(true)) - (await write(false)))
  return `${median(differences).toFixed(0)} µs for each row (${Math.min(...differences).toFixed(0)} at best)`
}

/** What sixteen connections of one tenant get done, each writing a row and then busy for 10 ms before it commits. */
const throughput = async (owner: pg.Pool, [tenant]: string[], seconds: number, turns: number): Promise<string> => {
  const work = async () => {
    const client = await owner.connect()
    try {
      await client.query('begin')
      await client.query(enter, [tenant])
      await client.query('insert into app.projects (name) values (gen_random_uuid()::text)')
      await client.query('select pg_sleep(0.01)')
      await client.query('commit')
    } finally {
      client.release()
    }
  }
  const found = { audited: [] as number[], plain: [] as number[] }
  for (let turn = 0; turn < turns; turn++) {
    await owner.query(auditTriggers(false))
    found.plain.push((await measure(work, 16, seconds)).perSecond)
    await owner.query(auditTriggers(true))
    found.audited.push((await measure(work, 16, seconds)).perSecond)
  }
  const ratio = median(found.audited.map((each, turn) => each / (found.plain[turn] ?? 0)))
  return `${median(found.audited).toFixed(0)} a second with audit, ${median(found.plain).toFixed(0)} without: ${ratio.toFixed(2)}`
}

/** The worker's own loop, while eight connections write as fast as they can. */
const lag = async (
  owner: pg.Pool,
  worker: pg.Pool,
  signer: Signer,
  tenants: string[],
  seconds: number,
): Promise<string> => {
  while ((await sealNext(worker, signer, 10_000)).entries > 0);
  const { rows: start } = await owner.query<{ position: string }>('select position from app.audit_sealing')
  const sealer = startSealer({
    pool: worker,
    signers: [signer],
    intervalMs: 3_000,
    sink: undefined,
    log: makeLogger({ logLevel: 'silent' }),
  })
  let n = 0
  const { perSecond } = await measure(
    async () => {
      const client = await owner.connect()
      try {
        await client.query('begin')
        await client.query(enter, [tenants[n++ % tenants.length]])
        await client.query('insert into app.projects (name) values (gen_random_uuid()::text)')
        await client.query(n % 10 === 0 ? 'rollback' : 'commit')
      } finally {
        client.release()
      }
    },
    8,
    seconds,
  )
  for (let waiting = true; waiting; await sleep(200)) {
    waiting = (await owner.query('select app.audit_seal_lag() is not null as waits')).rows[0].waits
  }
  await sealer.stop()
  const { rows } = await owner.query(
    `select percentile_cont(array[0.5, 0.99, 1]) within group (order by extract(epoch from s.sealed_at - l.at)) as lags, count(*) as n
       from app.audit_seals s
       join app.audit_log l on l.tenant_id = s.tenant_id and l.xact >= s.from_xact and l.xact < s.to_xact and app.audit_month(l.id) = s.month
      where s.position > $1`,
    [start[0]?.position],
  )
  const [p50, p99, most] = (rows[0].lags as number[]).map((each) => `${each.toFixed(1)} s`)
  return `p50 ${p50}, p99 ${p99}, at most ${most} (${rows[0].n} entries, ${perSecond.toFixed(0)} transactions a second, sealing every 3 s)`
}

const ROWS = 100_000

/** A log of a hundred thousand entries: as an export with what is personal opened, and where it stands. */
const verification = async (
  owner: pg.Pool,
  ownerUrl: string,
  worker: pg.Pool,
  signer: Signer,
  tenants: string[],
): Promise<string[]> => {
  const tenant = tenants[0] ?? ''
  const { rows: there } = await owner.query<{ n: number }>(
    'select count(*)::int as n from app.audit_log where tenant_id = $1',
    [tenant],
  )
  const client = await owner.connect()
  for (let n = there[0]?.n ?? 0; n < ROWS; n += 1_000) {
    await client.query('begin')
    await client.query(enter, [tenant])
    await client.query('insert into app.projects (name) select gen_random_uuid()::text from generate_series(1, 1000)')
    await client.query('commit')
  }
  client.release()
  while ((await owner.query('select app.audit_seal_lag() is not null as waits')).rows[0].waits) {
    await sealNext(worker, signer, 10_000)
  }

  const folder = await mkdtemp(join(tmpdir(), 'bench-audit-'))
  try {
    const [file, checkpoints] = [join(folder, 'export.ndjson'), join(folder, 'checkpoints.ndjson')]
    const rows = await writeExport(owner, tenant, file)
    const { rows: notes } = await owner.query<{ note: string }>(
      'select app.checkpoint_note(s) as note from app.audit_seals s where tenant_id = $1 order by batch',
      [tenant],
    )
    await writeFile(checkpoints, notes.map(({ note }) => `${JSON.stringify({ checkpoint: note })}\n`).join(''))
    const keys = [publicKeyOf(signer)]

    const offline = await timed(() => verifyExport({ file, checkpoints: [checkpoints], keys }, refuse))
    const reader = new pg.Client({ connectionString: ownerUrl })
    await reader.connect()
    const inside = await timed(() => verifyDatabase({ client: reader, keys }, refuse)).finally(() => reader.end())
    const speed = (n: number, ms: number) =>
      `${Math.round(n / (ms / 1000))} entries a second (${n} in ${(ms / 1000).toFixed(1)} s)`
    return [
      `verifying an export: ${speed(rows, offline.ms)}`,
      `verifying the database: ${speed(inside.result.verified, inside.ms)}`,
      `resident memory after it: ${Math.round(process.memoryUsage.rss() / 2 ** 20)} MiB`,
    ]
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const refuse = (finding: unknown): never => {
  throw new Error(`a log that nobody has touched is not as it was sealed: ${JSON.stringify(finding)}`)
}

const timed = async <T>(work: () => Promise<T>): Promise<{ result: T; ms: number }> => {
  const from = performance.now()
  const result = await work()
  return { result, ms: performance.now() - from }
}

const writeExport = async (owner: pg.Pool, tenant: string, file: string): Promise<number> => {
  const out = createWriteStream(file)
  const client = await owner.connect()
  let count = 0
  await client.query('begin')
  await client.query(
    `declare exported no scroll cursor for
     select '{"personal": ' || case when l.address is null then '{}' else jsonb_build_object('address', jsonb_build_object(
              'value', app.reveal(k.key, 'address', l.address), 'key', encode(k.key, 'hex')))::text end
            || ', "entry": ' || app.audit_entry(l) || '}' || E'\\n' as line
       from app.audit_log l
       left join lateral (select sha256(p.key || uuid_send(l.id)) as key from app.personal_keys p
                           where p.subject_id = coalesce(l.actor_id, l.tenant_id)) k on true
      where l.tenant_id = $1 order by l.xact, l.id`,
    [tenant],
  )
  for (;;) {
    const { rows } = await client.query<{ line: string }>('fetch 5000 from exported')
    if (rows.length === 0) break
    count += rows.length
    out.write(rows.map(({ line }) => line).join(''))
  }
  await client.query('commit')
  client.release()
  await new Promise<void>((resolve) => out.end(resolve))
  return count
}
