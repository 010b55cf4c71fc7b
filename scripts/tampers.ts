/**
 * Tampering with the audit log, as whoever owns the database could: a sealed log is arranged, and then changed in some
 * random way in a transaction, verified there, and rolled back. Every change has to be found, in the tenant and a batch.
 */
import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import {
  formatCheckpoint,
  type Head,
  nextCheckpoint,
  type PublicKey,
  publicKeyOf,
  type Signer,
  signText,
} from '../src/audit/checkpoint.ts'
import { eachLeaf, rootOf } from '../src/audit/merkle.ts'
import { publishCheckpoints } from '../src/audit/publish.ts'
import { addKeys, sealNext } from '../src/audit/sealer.ts'
import { folderSink } from '../src/audit/sinks.ts'
import type { Finding } from '../src/audit/verify.ts'
import { verifyInTransaction } from '../src/audit/verify-database.ts'
import { makePool } from '../src/db/pool.ts'
import type { Random } from './fuzz/random.ts'

// A sealed log

export type SealedLog = {
  client: pg.Client
  keys: PublicKey[]
  folder: string
  /** Every entry, and the batch that it is in. */
  entries: Row[]
  seals: SealRow[]
  close(): Promise<void>
}
type Row = { tenant_id: string; id: string; xact: string; batch: number }
type SealRow = { tenant_id: string; id: string; batch: number; position: number }

/** What nobody who owns the database has. */
const makeSigner = (id: string): Signer => ({ id, ...generateKeyPairSync('ed25519') })

/**
 * Writes into the log of acme and globex, over two months, and seals it bit by bit, checkpoints outside included. Some of
 * what is written says something about people.
 */
export const arrangeSealedLog = async (urls: { superuser: string; worker: string }): Promise<SealedLog> => {
  const client = new pg.Client({ connectionString: urls.superuser })
  const worker = makePool(urls.worker, { max: 1, waitMs: 10_000, name: 'tamper', onError: () => {} })
  const folder = await mkdtemp(join(tmpdir(), 'checkpoints-'))
  const signer = makeSigner('sealer')
  client.on('error', () => {}) // what breaks shows in the query that is asked
  await client.connect()
  await addKeys(worker, [signer])
  const { rows: tenants } = await client.query<{ id: string }>('select tenant_id as id from app.tenants order by slug')
  // last month has a partition, as it has where the log is older
  await client.query(`do $$ declare v_month timestamptz := date_trunc('month', now(), 'UTC'); begin
    set local role app_audit;
    execute format('create table audit.last_month partition of app.audit_log for values from (%L) to (%L)',
                   app.uuidv7_floor(v_month - interval '1 month'), app.uuidv7_floor(v_month)); end $$`)

  for (let round = 0; round < 24; round++) {
    const tenant = tenants[round % tenants.length]?.id
    await client.query('begin')
    await client.query(`select app.seal($1, 'system', null, 'owner', null, 'tamper', '192.0.2.7')`, [tenant])
    await client.query(`insert into app.projects (name) select $1 || n from generate_series(1, $2::int) n`, [
      `round ${round} `,
      1 + (round % 5),
    ])
    await client.query(`update app.projects set description = $2 where tenant_id = $1 and name ^@ $2`, [
      tenant,
      `round ${round} `,
    ])
    if (round % 4 === 0) {
      await client.query(`delete from app.projects where tenant_id = $1 and name = $2`, [tenant, `round ${round} 1`])
    }
    if (round % 6 === 5) {
      await client.query(
        `insert into app.audit_log (tenant_id, id, actor_kind, action, table_name, new_row)
         select $1, app.uuidv7_floor(date_trunc('month', now(), 'UTC') + m * interval '20 days' + $2 * interval '1 second'), 'system', 'read', 'another month', '{"n": 1}'
           from unnest(array[-1, 2]) m`,
        [tenant, round],
      )
    }
    await client.query('commit')
    if (round % 2 === 1) await sealAll(client, worker, signer)
  }
  await sealAll(client, worker, signer)
  await publishCheckpoints(worker, folderSink(folder), new AbortController().signal)
  await worker.end()

  const { rows: entries } = await client.query<Row>(`
    select l.tenant_id, l.id, l.xact, s.batch::int from app.audit_log l
      join app.audit_seals s on s.tenant_id = l.tenant_id and s.month = app.audit_month(l.id) and l.xact >= s.from_xact and l.xact < s.to_xact
     order by l.tenant_id, l.xact, l.id`)
  const { rows: seals } = await client.query<SealRow>(
    'select tenant_id, id, batch::int, position::int from app.audit_seals order by position',
  )
  const close = async () => {
    await client.end()
    await rm(folder, { recursive: true, force: true })
  }
  return { client, keys: [publicKeyOf(signer)], folder, entries, seals, close }
}

const sealAll = async (client: pg.Client, worker: pg.Pool, signer: Signer): Promise<void> => {
  for (;;) {
    await sealNext(worker, signer, 1_000)
    const { rows } = await client.query<{ done: boolean }>('select app.audit_seal_lag() is null as done')
    if (rows[0]?.done) return
  }
}

// Ways to tamper

/** What was done, and in whose log. */
type Tamper = { done: string; tenants: string[] }
type Way = (log: SealedLog, random: Random) => Promise<Tamper>

/** Other values for every column of the log, whatever they were. */
const otherValues: Readonly<Record<string, string>> = {
  id: `encode(overlay(uuid_send(id) placing decode(lpad(to_hex(get_byte(uuid_send(id), 15) # 1), 2, '0'), 'hex') from 16), 'hex')::uuid`,
  xact: 'xact + 1',
  at: `at - interval '1 microsecond'`,
  actor_kind: `actor_kind || '?'`,
  actor_id: 'gen_random_uuid()',
  on_behalf_of: 'gen_random_uuid()',
  role: `coalesce(role, '') || 'x'`,
  session_id: 'gen_random_uuid()',
  request_id: `coalesce(request_id, '') || '0'`,
  address: `coalesce(address, '\\x00') || '\\x01'`,
  action: `action || 'd'`,
  table_name: `table_name || 's'`,
  row_id: 'gen_random_uuid()',
  old_row: `coalesce(old_row, '{}') || '{"name": "tampered"}'`,
  new_row: `coalesce(new_row, '{}') - 'name' || '{"name": "tampered"}'`,
}

const otherSealValues: Readonly<Record<string, string>> = {
  batch: 'batch + 100',
  kind: `case kind when 'entries' then 'retired' else 'entries' end, entries = case kind when 'entries' then 0 else 1 end`,
  month: `'2020-01'`,
  era: 'era + 1',
  era_from: `'00000000-0000-7000-8000-000000000001'`,
  from_xact: 'greatest(from_xact - 1, 0) + case from_xact when 0 then 1 else 0 end',
  to_xact: 'to_xact + 1',
  entries: 'entries + 1, total = total + 1',
  total: 'total + 1',
  root: 'sha256(root)',
  previous: 'sha256(previous)',
  sealed_at: `sealed_at - interval '1 day'`,
  key_id: `key_id || 'x'`,
  signature: `overlay(signature placing '\\x0000' from 20)`,
}

const one = async (log: SealedLog, sql: string, values: unknown[] = []): Promise<void> => {
  const { rowCount } = await log.client.query(sql, values)
  if (rowCount !== 1) throw new Error(`${rowCount} rows were changed: ${sql}`)
}

const edit: Way = async (log, random) => {
  const row = random.pick(log.entries)
  const [column, value] = random.pick(Object.entries(otherValues))
  await one(log, `update app.audit_log set ${column} = ${value} where tenant_id = $1 and id = $2`, [
    row.tenant_id,
    row.id,
  ])
  return { done: `edited ${column}`, tenants: [row.tenant_id] }
}

const editAField: Way = async (log, random) => {
  const rows = log.entries
  const row = random.pick(rows)
  const { rows: keys } = await log.client.query<{ key: string; image: string }>(
    `select key, image from app.audit_log l cross join lateral (values ('old_row', l.old_row), ('new_row', l.new_row)) i (image, it)
      cross join lateral jsonb_object_keys(case when jsonb_typeof(it) = 'object' then it else '{}' end) key
      where tenant_id = $1 and id = $2`,
    [row.tenant_id, row.id],
  )
  if (keys.length === 0) return edit(log, random)
  const { key, image } = random.pick(keys)
  const change = random.pick([
    `${image} - '${key}'`,
    `jsonb_set(${image}, '{${key}}', '"tampered"')`,
    `jsonb_set(${image}, '{${key}}', 'null')  || '{"${key} ": null}'`,
  ])
  await one(log, `update app.audit_log set ${image} = ${change} where tenant_id = $1 and id = $2`, [
    row.tenant_id,
    row.id,
  ])
  return { done: `edited ${key} in ${image}`, tenants: [row.tenant_id] }
}

const remove: Way = async (log, random) => {
  const from = random.below(log.entries.length)
  const rows = log.entries.slice(from, from + 1 + random.below(4))
  for (const row of rows) {
    await one(log, 'delete from app.audit_log where tenant_id = $1 and id = $2', [row.tenant_id, row.id])
  }
  return { done: `deleted ${rows.length}`, tenants: rows.map(({ tenant_id }) => tenant_id) }
}

/** A copy beside another entry, at its time or earlier. */
const insert: Way = async (log, random) => {
  const row = random.pick(log.entries)
  const back = random.pick(['0 s', '1 s', '1 hour', '40 days'])
  const xact = random.pick(['xact', 'xact - 1', 'greatest(xact - 3, 0)', '0'])
  await one(
    log,
    `insert into app.audit_log
     select tenant_id, encode(overlay(uuid_send(id) placing substring(uuid_send(gen_random_uuid()) from 9) from 9), 'hex')::uuid,
            ${xact}, at - $3::interval, actor_kind, actor_id, on_behalf_of, role, session_id, request_id, address, action,
            table_name, row_id, old_row, new_row
       from app.audit_log where tenant_id = $1 and id = $2`,
    [row.tenant_id, row.id, back],
  )
  return { done: `inserted a copy, ${back} back, ${xact}`, tenants: [row.tenant_id] }
}

/** Two entries of one tenant exchange what says when they were. */
const reorder: Way = async (log, random) => {
  const first = random.pick(log.entries)
  const others = log.entries.filter((row) => row.tenant_id === first.tenant_id && row.id !== first.id)
  const second = random.pick(others)
  const what = random.pick(['id', 'xact', 'at'])
  const { rows } = await log.client.query<{ a: string; b: string }>(
    `select (select ${what}::text from app.audit_log where tenant_id = $1 and id = $2) as a,
            (select ${what}::text from app.audit_log where tenant_id = $1 and id = $3) as b`,
    [first.tenant_id, first.id, second.id],
  )
  const { a, b } = rows[0] as { a: string; b: string }
  if (a === b) return reorder(log, random)
  const set = (row: Row, id: string, value: string) =>
    one(log, `update app.audit_log set ${what} = $3 where tenant_id = $1 and id = $2`, [row.tenant_id, id, value])
  if (what === 'id') {
    const between = `${first.id.slice(0, 24)}${String(random.below(1e12)).padStart(12, '0')}`
    await set(first, first.id, between)
    await set(second, second.id, a)
    await set(first, between, b)
  } else {
    await set(first, first.id, b)
    await set(second, second.id, a)
  }
  return { done: `swapped ${what}`, tenants: [first.tenant_id] }
}

const swapTenants: Way = async (log, random) => {
  const row = random.pick(log.entries)
  const other = log.entries.find(({ tenant_id }) => tenant_id !== row.tenant_id)?.tenant_id ?? ''
  const to = random.pick([other, other, '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11'])
  await one(log, 'update app.audit_log set tenant_id = $3 where tenant_id = $1 and id = $2', [
    row.tenant_id,
    row.id,
    to,
  ])
  return { done: 'gave an entry to another tenant', tenants: [row.tenant_id] }
}

const loseAPartition: Way = async (log, random) => {
  const { rows } = await log.client.query<{ name: string; tenants: string[] }>(
    `select l.tableoid::regclass::text as name, array_agg(distinct tenant_id::text) as tenants from app.audit_log l group by 1`,
  )
  const { name, tenants } = random.pick(rows)
  const way = random.pick([
    `alter table ${name} disable trigger user; truncate ${name}`,
    `alter table app.audit_log detach partition ${name}`,
    `drop table ${name}`,
    `create table audit.kept as select * from ${name} offset 1; alter table ${name} disable trigger user;
     truncate ${name}; insert into app.audit_log select * from audit.kept`,
  ])
  await log.client.query(way)
  return { done: way.replaceAll(name, 'a partition'), tenants: way.includes('offset 1') ? [] : tenants }
}

const backdate: Way = async (log, random) => {
  const row = random.pick(log.entries)
  const by = random.pick(['1 ms', '1 s', '1 hour', '3 days'])
  const at = await log.client.query(
    `update app.audit_log set at = at - $3::interval,
            id = encode(overlay(uuid_send(id) placing substring(int8send((('x' || left(id::text, 8) || substr(id::text, 10, 4))::bit(48)::int8
                 - extract(epoch from $3::interval) * 1000)::int8) from 3) from 1 for 6), 'hex')::uuid,
            xact = xact - $4::int
      where tenant_id = $1 and id = $2`,
    [row.tenant_id, row.id, by, random.below(3)],
  )
  if (at.rowCount !== 1) throw new Error('nothing was backdated')
  return { done: `backdated by ${by}`, tenants: [row.tenant_id] }
}

const editASeal: Way = async (log, random) => {
  const seal = random.pick(log.seals)
  const [column, value] = random.pick(Object.entries(otherSealValues))
  await one(log, `update app.audit_seals set ${column} = ${value} where tenant_id = $1 and id = $2`, [
    seal.tenant_id,
    seal.id,
  ])
  return { done: `edited ${column} of a seal`, tenants: [seal.tenant_id] }
}

const removeASeal: Way = async (log, random) => {
  const seal = random.pick(log.seals)
  await one(log, 'delete from app.audit_seals where tenant_id = $1 and id = $2', [seal.tenant_id, seal.id])
  await log.client.query('update app.audit_seals set position = position - 1 where position > $1', [seal.position])
  await log.client.query('update app.audit_sealing set position = position - 1')
  return { done: 'deleted a seal, and closed the gap', tenants: [seal.tenant_id] }
}

/** Something is changed, and from there on the whole chain is made anew, as it should be, but under another key. */
const sealAnew: Way = async (log, random) => {
  const row = random.pick(log.entries)
  const how = random.pick(['edited', 'deleted'])
  if (how === 'edited') {
    await one(
      log,
      `update app.audit_log set new_row = '{"name": "tampered"}', role = 'x' where tenant_id = $1 and id = $2`,
      [row.tenant_id, row.id],
    )
  } else await one(log, 'delete from app.audit_log where tenant_id = $1 and id = $2', [row.tenant_id, row.id])

  const thief = makeSigner('sealer')
  const { rows } = await log.client.query(
    `select *, app.checkpoint_time(sealed_at) as time from app.audit_seals where tenant_id = $1 order by batch`,
    [row.tenant_id],
  )
  let head: Head = null
  for (const seal of rows) {
    const found = await log.client.query<{ leaves: Buffer | null; n: number }>(
      `select string_agg(app.audit_leaf(l), '' order by xact, id) as leaves, count(*)::int as n from app.audit_log l
        where tenant_id = $1 and xact >= $2 and xact < $3 and app.audit_month(id) = $4`,
      [seal.tenant_id, seal.from_xact, seal.to_xact, seal.month],
    )
    const { leaves, n } = found.rows[0] as { leaves: Buffer | null; n: number }
    const checkpoint = nextCheckpoint(head, {
      tenantId: seal.tenant_id,
      month: seal.month,
      era: seal.era,
      eraFrom: seal.era_from,
      fromXact: Number(seal.from_xact),
      toXact: Number(seal.to_xact),
      entries: Math.max(n, 1),
      root: rootOf(eachLeaf(leaves ?? Buffer.alloc(0))),
      sealedAt: seal.time,
    })
    const text = formatCheckpoint(checkpoint)
    head = { batch: checkpoint.batch, total: checkpoint.total, text }
    await one(
      log,
      `update app.audit_seals set entries = $3, total = $4, root = $5, previous = $6, signature = $7 where tenant_id = $1 and id = $2`,
      [
        seal.tenant_id,
        seal.id,
        checkpoint.entries,
        checkpoint.total,
        checkpoint.root,
        checkpoint.previous,
        signText(text, thief),
      ],
    )
  }
  await log.client.query('update app.audit_keys set public_key = $1', [publicKeyOf(thief).key])
  return { done: `${how} an entry and sealed anew under a key of one's own`, tenants: [row.tenant_id] }
}

/** The end of a tenant's log goes with its seals, and nothing in the database says that it was ever there. */
const cutOff: Way = async (log, random) => {
  const tenant = random.pick(log.seals).tenant_id
  const batches = log.seals.filter(({ tenant_id }) => tenant_id === tenant).length
  const from = 1 + random.below(batches)
  const keep = await log.client.query<{ last: string }>(
    'select coalesce(max(to_xact), 0)::text as last from app.audit_seals where tenant_id = $1 and batch < $2',
    [tenant, from],
  )
  await log.client.query('delete from app.audit_log where tenant_id = $1 and xact >= $2', [tenant, keep.rows[0]?.last])
  await log.client.query(
    `delete from app.audit_log l using app.audit_seals s where s.tenant_id = $1 and s.batch >= $2 and l.tenant_id = $1
        and l.xact >= s.from_xact and l.xact < s.to_xact and app.audit_month(l.id) = s.month`,
    [tenant, from],
  )
  await log.client.query('delete from app.audit_seals where tenant_id = $1 and batch >= $2', [tenant, from])
  await renumber(log)
  return { done: `cut off from batch ${from} on`, tenants: [tenant] }
}

/** Log, seals and the state of sealing as they were some time ago, as a backup has them. */
const setBack: Way = async (log, random) => {
  const position = random.below(log.seals.length)
  const gone = log.seals.filter((seal) => seal.position > position)
  await log.client.query(
    `delete from app.audit_log l using app.audit_seals s where s.position > $1 and l.tenant_id = s.tenant_id
        and l.xact >= s.from_xact and l.xact < s.to_xact and app.audit_month(l.id) = s.month`,
    [position],
  )
  await log.client.query('delete from app.audit_seals where position > $1', [position])
  await log.client.query(
    'update app.audit_sealing set sealed_to = (select coalesce(max(to_xact), 0) from app.audit_seals)',
  )
  await renumber(log)
  return { done: `set back to position ${position}`, tenants: [...new Set(gone.map(({ tenant_id }) => tenant_id))] }
}

const renumber = async (log: SealedLog) => {
  await log.client.query(
    `update app.audit_seals s set position = n.position
       from (select id, row_number() over (order by position) as position from app.audit_seals) n where n.id = s.id`,
  )
  await log.client.query(`update app.audit_sealing set position = (select count(*) from app.audit_seals)`)
}

/** An entry is changed, and the function that says what an entry is says what it was. */
const hide: Way = async (log, random) => {
  const row = random.pick(log.entries)
  const where = 'where tenant_id = $1 and id = $2'
  const { rows } = await log.client.query<{ was: string }>(
    `select app.audit_entry(l) as was from app.audit_log l ${where}`,
    [row.tenant_id, row.id],
  )
  await one(log, `update app.audit_log set action = 'forged' ${where}`, [row.tenant_id, row.id])
  const source = await log.client.query<{ text: string }>(
    `select pg_get_functiondef('app.audit_entry(app.audit_log)'::regprocedure) as text`,
  )
  const lie = `begin\n  if p_entry.id = '${row.id}' then return ${pg.escapeLiteral(rows[0]?.was ?? '')}; end if;`
  await log.client.query((source.rows[0]?.text ?? '').replace('begin', () => lie))
  return { done: 'changed an entry and the function that reads it', tenants: [row.tenant_id] }
}

export const ways: Readonly<Record<string, Way>> = {
  ...{ edit, editAField, remove, insert, reorder, swapTenants, loseAPartition, backdate },
  ...{ editASeal, removeASeal, sealAnew, cutOff, setBack, hide },
}

// Trying them

export type Attempt = {
  way: string
  done: string
  role: 'superuser' | 'owner'
  /** Tenants that were tampered with, and that no finding names together with a batch. */
  missed: string[]
  findings: Finding[]
}

/** Tampers once, in a transaction that is rolled back, and says what verification made of it. */
export const attempt = async (log: SealedLog, way: string, random: Random): Promise<Attempt> => {
  const role = random.pick(['superuser', 'owner'] as const)
  const { client } = log
  await client.query('begin')
  try {
    await unlock(log, role)
    const { done, tenants } = await (ways[way] as Way)(log, random)
    await client.query('reset role')
    const findings = await verifyLog(log)
    const named = new Set(findings.filter(({ batch }) => batch !== null).map(({ tenantId }) => tenantId))
    const missed = [...new Set(tenants)].filter((tenant) => !named.has(tenant))
    return { way, done, role, missed: named.size === 0 ? ['anything'] : missed, findings }
  } finally {
    await client.query('rollback')
  }
}

/** What a verification of the log as it stands finds. */
export const verifyLog = async ({ client, keys, folder }: SealedLog): Promise<Finding[]> => {
  const findings: Finding[] = []
  await verifyInTransaction({ client, keys, folder }, (finding) => {
    findings.push(finding)
  })
  return findings
}

/** Triggers and row security keep changes out, and whoever owns the tables takes them away first. */
const unlock = async ({ client }: SealedLog, role: Attempt['role']): Promise<void> => {
  if (role === 'owner') {
    const name = `tamperer_${process.pid}`
    await client.query(
      `create role ${name} nologin inherit; grant app_owner, app_audit to ${name}; set local role ${name}`,
    )
  }
  for (const table of ['audit_log', 'audit_seals', 'audit_keys', 'audit_sealing']) {
    await client.query(`alter table app.${table} no force row level security, disable trigger user`)
  }
}
