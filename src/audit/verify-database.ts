/** Verification of every tenant's log where it stands, for those who run the database. */
import type pg from 'pg'
import { formatCheckpoint, formatNote, makeVerifier, type PublicKey } from './checkpoint.ts'
import { checkpointsOf, filesIn } from './files.ts'
import { UnreadableFile } from './lines.ts'
import { opens } from './personal.ts'
import {
  type Chain,
  makeChains,
  PATIENCE_MS,
  type Report,
  range,
  type Sealing,
  sweep,
  type Totals,
  tenantOf,
} from './verify.ts'

type Options = {
  /** A superuser, or a member of app_audit. */
  client: pg.ClientBase
  keys: readonly PublicKey[]
  /** One tenant, by its slug; all when it is missing. */
  tenant?: string | undefined
  /** A folder with checkpoints that were kept outside. */
  folder?: string | undefined
  /** How long an entry may wait to be sealed. */
  patienceMs?: number
}

export type DatabaseTotals = Totals & {
  /** By id, their slug; empty for one that is no more. */
  tenants: ReadonlyMap<string, string>
  batches: number
  /** Checkpoints of the folder. */
  kept: number
  /** Entries with something personal whose key was destroyed. */
  unopened: number
}

const ROWS_AT_ONCE = 5_000

/**
 * Holds each tenant's entries against its seals, and these against the checkpoints that were kept outside, all as of one
 * moment. What is hashed is put together here and by functions of PostgreSQL itself, since those of the schema could have
 * been replaced. Changes nothing. Throws UnreadableFile for a folder without checkpoints, or with something else in it.
 */
export const verifyDatabase = async (options: Options, report: Report): Promise<DatabaseTotals> => {
  const { client } = options
  await client.query('begin isolation level repeatable read read only')
  try {
    return await verifyInTransaction(options, report)
  } finally {
    await client.query('rollback')
  }
}

/** The same in a transaction that is open, with what was done in it. It ends with other settings, and as another role. */
export const verifyInTransaction = async (options: Options, report: Report): Promise<DatabaseTotals> => {
  const settings = ['search_path = pg_catalog, pg_temp', "timezone = 'UTC'", 'jit = off', 'statement_timeout = 0']
  for (const setting of settings) await options.client.query(`set local ${setting}`)
  return verify(options, report)
}

const verify = async (
  { client, keys, tenant, folder, patienceMs = PATIENCE_MS }: Options,
  report: Report,
): Promise<DatabaseTotals> => {
  const slugs = await readSlugs(client)
  const only = tenant === undefined ? undefined : slugs.get(tenant)
  if (tenant !== undefined && only === undefined) throw new Error(`there is no tenant ${tenant}`)
  const wanted = (tenantId: string) => only === undefined || tenantId === only

  const { chains, add, of } = makeChains(makeVerifier(keys), report)
  const sealing = await readSealing(client)
  const batches = await readSeals(client, only, (note) => add(note, 'the database'))
  await checkPositions(client, report)
  await checkSealing(client, report)
  const sealed = new Map<string, number>()
  for (const { tenantId, length, gaps } of chains.values()) {
    sealed.set(tenantId, length)
    for (const [first, last] of gaps()) {
      report({ tenantId, batch: first, problem: 'seal_missing', detail: `${range(first, last)} not in the database` })
    }
  }

  let kept = 0
  let foreign = 0
  for (const file of folder === undefined ? [] : filesIn(folder)) {
    for await (const { note, beside } of checkpointsOf(file)) {
      if (wanted(tenantOf(note) ?? only ?? '')) {
        add(note, file, beside)
        kept++
      } else foreign++
    }
  }
  // a folder that is not mounted would prove what it should have refuted
  if (folder !== undefined && kept === 0 && (foreign === 0 || batches > 0)) {
    const whose = foreign === 0 ? '' : ` of tenant ${tenant}`
    throw new UnreadableFile(`no file in ${folder} holds a checkpoint${whose}: it proves nothing`)
  }
  for (const id of await tenantsIn(client)) if (wanted(id)) of(id)

  const totals = { verified: 0, unsealed: 0, unsealedSince: Number.POSITIVE_INFINITY, retired: 0, unopened: 0 }
  for (const chain of chains.values()) {
    const inDatabase = sealed.get(chain.tenantId) ?? 0
    const find = (batch: number | null, problem: 'seal_missing' | 'not_sealed', detail: string) =>
      report({ tenantId: chain.tenantId, batch, problem, detail })
    chain.check()
    if (inDatabase < chain.length) {
      find(inDatabase + 1, 'seal_missing', `it is not in the database; a checkpoint of batch ${chain.length} was kept`)
    }
    const found = await sweepTenant(client, chain, sealing, patienceMs, report)
    if (found.unsealed > 0 && found.unsealedSince < sealing.now - patienceMs) {
      const since = new Date(found.unsealedSince).toISOString()
      find(
        null,
        'not_sealed',
        `${found.unsealed} entries are not sealed yet, the first since ${since}: does a worker run?`,
      )
    }
    totals.verified += found.verified
    totals.unsealed += found.unsealed
    totals.unsealedSince = Math.min(totals.unsealedSince, found.unsealedSince)
    totals.retired += found.retired
    totals.unopened += found.unopened
  }
  const names = new Map([...slugs].map(([slug, id]) => [id, slug]))
  return { ...totals, tenants: new Map([...chains.keys()].map((id) => [id, names.get(id) ?? ''])), batches, kept }
}

/**
 * By slug, the id. From then on everything is seen: a superuser is not bound by row security, whatever policies there are;
 * another acts as the owner of the log.
 */
const readSlugs = async (client: pg.ClientBase): Promise<Map<string, string>> => {
  const me = await client.query<{ super: boolean }>(
    'select rolsuper as super from pg_roles where rolname = session_user',
  )
  const bound = me.rows[0]?.super !== true
  if (bound) await client.query('set local role app_gate')
  const { rows } = await client.query<{ slug: string; id: string }>(
    'select slug, tenant_id::text as id from app.tenants',
  )
  if (bound) await client.query('set local role app_audit')
  return new Map(rows.map(({ slug, id }) => [slug, id]))
}

const readSealing = async (client: pg.ClientBase): Promise<Sealing & { now: number }> => {
  const { rows } = await client.query<Sealing & { sealedTo: string; now: string }>(
    `select era, era_from::text as "eraFrom", era_ends[1]::text as "nextEra", sealed_to::text as "sealedTo",
            xmin::text::int8 <> xact & 4294967295 as moved, extract(epoch from now())::text as now
       from app.audit_sealing`,
  )
  const [row] = rows
  if (!row) throw new Error('app.audit_sealing is empty: it has one row where migrations ran')
  return { ...row, sealedTo: Number(row.sealedTo), now: Number(row.now) * 1000 }
}

type SealRow = Record<'tenantId' | 'batch' | 'kind' | 'month' | 'era' | 'eraFrom' | 'fromXact' | 'toXact', string> &
  Record<'entries' | 'total' | 'root' | 'previous' | 'sealedAt' | 'keyId' | 'signature', string>

/** Hands every seal to `add`, as the note that its columns make, and answers how many there are. */
const readSeals = async (
  client: pg.ClientBase,
  only: string | undefined,
  add: (note: string) => void,
): Promise<number> => {
  let seals = 0
  await eachRow<SealRow>(
    client,
    `select tenant_id::text as "tenantId", batch::text, kind, month, era::text, era_from::text as "eraFrom",
            from_xact::text as "fromXact", to_xact::text as "toXact", entries::text, total::text,
            encode(root, 'hex') as root, encode(previous, 'hex') as previous,
            to_char(sealed_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as "sealedAt", key_id as "keyId", encode(signature, 'hex') as signature
       from app.audit_seals where $1::uuid is null or tenant_id = $1 order by tenant_id, batch`,
    [only ?? null],
    (row) => {
      const text = formatCheckpoint({
        tenantId: row.tenantId,
        batch: Number(row.batch),
        kind: row.kind as 'entries' | 'retired',
        month: row.month,
        era: Number(row.era),
        eraFrom: row.eraFrom,
        fromXact: Number(row.fromXact),
        toXact: Number(row.toXact),
        entries: Number(row.entries),
        total: Number(row.total),
        root: Buffer.from(row.root, 'hex'),
        previous: Buffer.from(row.previous, 'hex'),
        sealedAt: row.sealedAt,
      })
      add(formatNote(text, row.keyId, Buffer.from(row.signature, 'hex')))
      seals++
    },
  )
  return seals
}

/** Positions have no gaps: one that is missing was taken out, whoever's it was. */
const checkPositions = async (client: pg.ClientBase, report: Report): Promise<void> => {
  const { rows } = await client.query<{ n: string; last: string; all: string }>(
    `select count(distinct position)::text as n, count(*)::text as all,
            greatest(max(position), (select max(position) from app.audit_sealing), 0)::text as last
       from app.audit_seals`,
  )
  const { n, all, last } = rows[0] ?? {}
  if (n === last && all === last) return
  report({
    tenantId: '',
    batch: null,
    problem: 'seal_missing',
    detail: `of ${last} seals that were made ${all} are in the database`,
  })
}

/**
 * How far sealing says that it has come is how far the seals reach. Moved back, it makes what continues no chain, and stops;
 * moved on, it passes over what was never sealed.
 */
const checkSealing = async (client: pg.ClientBase, report: Report): Promise<void> => {
  const { rows } = await client.query<Record<'name' | 'here' | 'sealed', string>>(
    `select w.name, w.here, w.sealed
       from app.audit_sealing now
      cross join lateral (select coalesce(max(s.era), 1) as era, coalesce(max(s.position), 0) as position,
                                 min(s.era_from::text) filter (where s.era = now.era) as era_from,
                                 coalesce(max(s.to_xact) filter (where s.era = now.era and s.kind = 'entries'), 0) as sealed_to
                            from app.audit_seals s) sealed
      cross join lateral (values
        ('era', now.era::text, sealed.era::text, now.era < sealed.era),
        ('era_from', now.era_from::text, sealed.era_from, now.era_from::text <> sealed.era_from),
        ('sealed_to', now.sealed_to::text, sealed.sealed_to::text, now.sealed_to <> sealed.sealed_to),
        ('position', now.position::text, sealed.position::text, now.position < sealed.position)) w (name, here, sealed, differs)
      where w.differs`,
  )
  for (const { name, here, sealed } of rows) {
    const detail = `${name} of app.audit_sealing is ${here}, and of the seals ${sealed}: somebody moved it, and nothing is sealed as it should be`
    report({ tenantId: '', batch: null, problem: 'sealing_moved', detail })
  }
}

/** Whose entries there are. One at a time from the index: the log is long, and they are few. */
const tenantsIn = async (client: pg.ClientBase): Promise<string[]> => {
  const { rows } = await client.query<{ id: string }>(
    `with recursive t (id) as (
       select min(tenant_id::text) from (select tenant_id from app.audit_log order by tenant_id limit 1) first
       union all
       select (select l.tenant_id::text from app.audit_log l where l.tenant_id > t.id::uuid order by l.tenant_id limit 1)
         from t where t.id is not null)
     select id from t where id is not null`,
  )
  return rows.map(({ id }) => id)
}

/** app.audit_entry and app.audit_leaf, without asking them. */
const leaf = `sha256('\\x00'::bytea || convert_to(jsonb_build_object(
  'v', 1, 'tenant_id', e.tenant_id, 'id', e.id, 'xact', e.xact,
  'at', to_char(e.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  'actor_kind', e.actor_kind, 'actor_id', e.actor_id, 'on_behalf_of', e.on_behalf_of,
  'role', e.role, 'session_id', e.session_id, 'request_id', e.request_id,
  'address', encode(e.address, 'hex'), 'action', e.action, 'table', e.table_name,
  'row_id', e.row_id, 'old_row', e.old_row, 'new_row', e.new_row)::text, 'UTF8'))`

/**
 * What stands concealed in an entry: field, value, whose it is, whether a key of theirs is known, and the entry's own, which
 * is all that leaves the server. Somebody may have written anything there, and none of it is an error here.
 */
const concealed = `(
  select jsonb_agg(jsonb_build_array(f.field, f.value, f.subject_id, k.subject_id is not null, encode(sha256(k.key || uuid_send(e.id)), 'hex')))
    from (select 'address' as field, coalesce(e.actor_id, e.tenant_id) as subject_id, encode(e.address, 'hex') as value where e.address is not null
          union all
          select i.name || '.' || c.name,
                 case when i.fields -> c.name ->> 'personal_to' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then (i.fields -> c.name ->> 'personal_to')::uuid end,
                 i.fields -> c.name ->> 'value'
            from (values ('old_row', e.old_row), ('new_row', e.new_row)) i (name, fields),
                 jsonb_array_elements_text(case when jsonb_typeof(i.fields -> '@personal') = 'array' then i.fields -> '@personal' else '[]' end) c (name)
           where e.action <> 'read' and (e.old_row ? '@personal' or e.new_row ? '@personal') and i.fields -> c.name ->> 'value' is not null) f
    left join app.personal_keys k on k.subject_id = f.subject_id)`

type EntryRow = {
  id: string
  xact: string
  at: string
  leaf: Buffer
  concealed: [field: string, value: string, subjectId: string | null, known: boolean, entryKey: string | null][] | null
}

const sweepTenant = async (
  client: pg.ClientBase,
  chain: Chain,
  sealing: Sealing,
  patienceMs: number,
  report: Report,
) => {
  const entries = sweep(chain, report, sealing, patienceMs)
  const closed = new Map<string | null, { count: number; batch: number | null; first: string }>()
  let unopened = 0
  await eachRow<EntryRow>(
    client,
    `select e.id::text, e.xact::text, to_char(e.at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at, ${leaf} as leaf, ${concealed} as concealed
       from app.audit_log e where e.tenant_id = $1 order by e.xact, e.id`,
    [chain.tenantId],
    ({ id, xact, at, leaf, concealed }) => {
      const batch = entries.add({ id, xact: Number(xact), at, leaf })
      if (concealed?.some(([, , , known, key]) => known && key === null)) unopened++
      for (const [field, value, subjectId, known, key] of concealed ?? []) {
        const isErased = known && key === null
        if (isErased || (key !== null && opens(Buffer.from(key, 'hex'), field, Buffer.from(value, 'hex')))) continue
        const of = closed.get(subjectId) ?? { count: 0, batch, first: `${field} of ${id}` }
        closed.set(subjectId, { ...of, count: of.count + 1 })
      }
    },
  )
  for (const [subjectId, { count, batch, first }] of closed) {
    const detail = `${count} ${count === 1 ? 'value opens' : 'values open'} under no key of ${subjectId ?? 'nobody'}, who was not erased; the first is ${first}`
    report({ tenantId: chain.tenantId, batch, problem: 'personal_unreadable', detail })
  }
  return { ...entries.end(), unopened }
}

/** Some thousand rows at a time, however many there are. */
const eachRow = async <T extends object>(
  client: pg.ClientBase,
  query: string,
  values: unknown[],
  take: (row: T) => void,
): Promise<void> => {
  await client.query(`declare verifying no scroll cursor for ${query}`, values)
  for (;;) {
    const { rows } = await client.query<T>(`fetch ${ROWS_AT_ONCE} from verifying`)
    for (const row of rows) take(row)
    if (rows.length < ROWS_AT_ONCE) break
  }
  await client.query('close verifying')
}
