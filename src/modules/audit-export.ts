import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { type RawBuilder, sql } from 'kysely'
import type { TenantDb } from '../db/door.ts'
import { Problem, problemOf } from '../errors.ts'
import { AuditAction } from '../lib/audit-action.ts'
import { csvRecord } from '../lib/csv.ts'
import { described, OneOf, Timestamp, Uuid } from '../lib/schemas.ts'
import { uuidv7Floor } from '../lib/uuidv7.ts'

// What an export looks like

/** An answer that is text, and does not come at once. */
const Streamed = (description: string) => Type.Unsafe<Readable>({ type: 'string', description })

const mediaTypes = { ndjson: 'application/x-ndjson; charset=utf-8', csv: 'text/csv; charset=utf-8; header=present' }

const Export = Type.Object(
  {
    format: OneOf(['ndjson', 'csv'], {
      default: 'ndjson',
      description: '`ndjson` is what can be verified; `csv` is for people and their spreadsheets.',
    }),
    ...described({
      actor_id: Type.Optional(Uuid),
      table: Type.Optional(Type.String({ maxLength: 63 })),
      action: Type.Optional(AuditAction),
      row_id: Type.Optional(Uuid),
      request_id: Type.Optional(Type.String({ maxLength: 128 })),
      at_gte: Type.Optional(Timestamp),
      at_lt: Type.Optional(Timestamp),
    }),
  },
  { additionalProperties: false },
)

type Filter = Omit<Static<typeof Export>, 'format'>

const line =
  '{"personal": {"address": {"key": "9f86…", "value": "192.0.2.7"}}, "entry": {"v": 1, "id": "01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11", …}}\n'

const answers = {
  200: {
    description:
      'Every entry that was committed before, in the order in which entries are sealed. An answer that ends before its ' +
      'last chunk is not the whole log.',
    headers: {
      'Content-Disposition': { type: 'string', description: 'An attachment, and a name for it.' },
    },
    content: {
      'application/x-ndjson': {
        schema: Streamed(
          'A line for each entry: `entry` is the text that is sealed, to the byte; `personal` has what is personal in ' +
            'it, each value with the key that opens it, unless the person was erased.',
        ),
        examples: { line: { value: line } },
      },
      'text/csv': {
        schema: Type.String({
          description:
            "RFC 4180, with a header. A cell that a spreadsheet would take for a formula has a `'` in front of it.",
        }),
        examples: { header: { value: 'xact,id,at,actor_kind,…\r\n' } },
      },
    },
  },
}

// What we ask of the database

type Position = { xact: string; id: string }

/** Entries are read up to here: what was written by a transaction before is committed or will never be. */
const findHorizon = async (db: TenantDb): Promise<Position> => {
  const { rows } = await sql<Position>`select xact, id from app.audit_horizon()`.execute(db)
  return rows[0] as Position
}

/** `content` is null for an entry that the filter leaves out. */
type Row<T> = Position & { content: T | null }

/** So many are looked at in one transaction, whatever the filter leaves of them: each has its time, and no page takes long. */
const PAGE = 1_000

/** The next entries behind `after`, in order; with the columns of the log at hand, the filter as `asked`. */
const pageOf = ({ xact, id }: Position, horizon: Position, filter: Filter) => sql`
  page as materialized (
    select audit_log as entry, audit_log.*, ${matches(filter)} as asked
      from app.audit_log
     where (xact, id) > (${xact}::int8, ${id}::uuid) and (xact < ${horizon.xact}::int8 or id < ${horizon.id}::uuid) and ${inMonthsOf(filter)}
     order by xact, id
     limit ${PAGE}
  )`

const matches = (filter: Filter): RawBuilder<boolean> => {
  const conditions = [
    filter.actor_id !== undefined && sql`actor_id = ${filter.actor_id}`,
    filter.table !== undefined && sql`table_name = ${filter.table}`,
    filter.action !== undefined && sql`action = ${filter.action}`,
    filter.row_id !== undefined && sql`row_id = ${filter.row_id}`,
    filter.request_id !== undefined && sql`request_id = ${filter.request_id}`,
    filter.at_gte !== undefined && sql`at >= ${filter.at_gte}`,
    filter.at_lt !== undefined && sql`at < ${filter.at_lt}`,
  ].filter((condition) => condition !== false)
  return conditions.length === 0 ? sql`true` : sql`coalesce(${sql.join(conditions, sql` and `)}, false)`
}

const DAY = 86_400_000

/** An id carries the time at which it was made: months outside the filter's are not read. A day for clocks that differ. */
const inMonthsOf = ({ at_gte, at_lt }: Filter): RawBuilder<boolean> => {
  const from = at_gte === undefined ? sql`true` : sql`id >= ${uuidv7Floor(Date.parse(at_gte) - DAY)}::uuid`
  const to = at_lt === undefined ? sql`true` : sql`id < ${uuidv7Floor(Date.parse(at_lt) + DAY)}::uuid`
  return sql`${from} and ${to}`
}

const readLines = async (db: TenantDb, after: Position, horizon: Position, filter: Filter): Promise<Row<string>[]> => {
  const { rows } = await sql<Row<string>>`
    with ${pageOf(after, horizon, filter)}
    select page.xact, page.id,
           case when asked then '{"personal": ' || coalesce(openings::text, '{}') || ', "entry": ' || app.audit_entry(entry) || '}' end as content
      from page
      left join app.personal_openings(array(select id from page where asked)) using (id)
     order by page.xact, page.id`.execute(db)
  return rows
}

const columns =
  'xact,id,at,actor_kind,actor_id,on_behalf_of,role,session_id,request_id,address,action,table,row_id,old_row,new_row'

type Record = (string | null)[]

const readRecords = async (
  db: TenantDb,
  after: Position,
  horizon: Position,
  filter: Filter,
): Promise<Row<Record>[]> => {
  const { rows } = await sql<Row<Record>>`
    with ${pageOf(after, horizon, filter)}
    select page.xact, page.id,
           case when asked then array[
             xact::text, id::text, to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), actor_kind, actor_id::text,
             on_behalf_of::text, role, session_id::text, request_id,
             coalesce(openings #>> '{address,value}', case when address is not null then '[erased]' end),
             action, table_name, row_id::text,
             coalesce(revealed ->> 'old_row', old_row::text), coalesce(revealed ->> 'new_row', new_row::text)] end as content
      from page
      left join app.personal_openings(array(select id from page where asked)) using (id)
      left join lateral (select app.reveal_entry(page.id) as revealed offset 0) clear
             on asked and (old_row ? '@personal' or new_row ? '@personal')
     order by page.xact, page.id`.execute(db)
  return rows
}

// What the world may ask of us

/** Before the first entry there is none. */
const START: Position = { xact: '0', id: '00000000-0000-0000-0000-000000000000' }

/** Pages, a transaction each, until one is not full. */
async function* pages<T>(read: (after: Position) => Promise<Row<T>[]>): AsyncGenerator<T[]> {
  for (let after = START, full = true; full; ) {
    const rows = await patiently(() => read(after))
    full = rows.length === PAGE
    after = rows.at(-1) ?? after
    yield rows.map(({ content }) => content).filter((content) => content !== null)
  }
}

const PATIENCE_MS = [200, 400, 800, 1_600, 3_200]

/** Asked again when the database is busy or away for a moment: of an export of an hour, every minute counts. */
const patiently = async <T>(read: () => Promise<T>): Promise<T> => {
  for (const delay of PATIENCE_MS) {
    try {
      return await read()
    } catch (error) {
      if (problemOf(error, { reading: true }).status !== 503) throw error
      await sleep(delay)
    }
  }
  return read()
}

async function* textOf<T>(
  head: string,
  of: (content: T) => string,
  found: AsyncGenerator<T[]>,
): AsyncGenerator<string> {
  if (head !== '') yield head
  for await (const page of found) if (page.length > 0) yield page.map(of).join('')
}

export const auditExport: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/export',
    {
      schema: {
        operationId: 'exportAuditLog',
        summary: 'Export the audit log',
        description:
          'The whole log of the tenant, streamed. Filters leave entries out, and what is left cannot be verified as a ' +
          'whole: a seal counts every entry. The export itself is an entry, under `audit_export`.',
        querystring: Export,
        response: answers,
      },
      config: {
        permission: 'audit:read',
        audited: 'audit_export',
        produces: ['application/x-ndjson', 'text/csv'],
        problems: ['upgrade_required'],
      },
      onRequest: refuseWithoutChunks,
    },
    async (request, reply) => {
      const { format, ...filter } = request.query
      const horizon = await findHorizon(request.db)
      const name = `audit-log-${new Date().toISOString().replace(/\.\d+/, '').replaceAll(':', '-')}.${format}`
      reply.type(mediaTypes[format]).header('content-disposition', `attachment; filename="${name}"`)
      if (request.method === 'HEAD') return Readable.from([])

      const read = <T>(ask: (db: TenantDb, after: Position, horizon: Position, filter: Filter) => Promise<Row<T>[]>) =>
        pages((after) => request.inTenant((db) => ask(db, after, horizon, filter)))
      const text =
        format === 'csv'
          ? textOf(`${columns}\r\n`, csvRecord, read(readRecords))
          : textOf('', (content: string) => `${content}\n`, read(readLines))
      // as bytes, so that one page is in memory while the one before is on its way
      return Readable.from(text, { objectMode: false })
    },
  )
}

/** Where an answer has neither length nor chunks (HTTP/1.0), one that was cut off looks like a whole one. */
const refuseWithoutChunks = async ({ raw }: FastifyRequest): Promise<void> => {
  if (raw.httpVersionMajor > 1 || raw.httpVersionMinor > 0) return
  throw new Problem('upgrade_required', { headers: { upgrade: 'HTTP/1.1', connection: 'upgrade, close' } })
}
