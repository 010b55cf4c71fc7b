import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import { sql } from 'kysely'
import {
  type Checkpoint as Fields,
  formatCheckpoint,
  formatNote,
  microseconds,
  parseCheckpoint,
  parseNote,
} from '../audit/checkpoint.ts'
import { HASH_BYTES, inclusionPath, leafHash, rootFromPath } from '../audit/merkle.ts'
import type { TenantDb } from '../db/door.ts'
import { Problem } from '../errors.ts'
import { defineList, range } from '../lib/lists.ts'
import { ById, OneOf, Page, Timestamp, Uuid } from '../lib/schemas.ts'

// What seals look like

const Hash = (description: string) => Type.String({ description, pattern: '^[0-9a-f]{64}$' })
const Count = (description: string) => Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description })
const Note = Type.String({
  description: 'A signed note (c2sp.org/signed-note) whose text is a tree head (c2sp.org/tlog-checkpoint). Keep it.',
})

const Checkpoint = Type.Object({
  id: Uuid,
  batch: Count('Counts the checkpoints of the tenant from 1.'),
  kind: OneOf(['entries', 'retired'], {
    description: '`retired`: the batches before it, of its month and earlier ones, were dropped from the log.',
  }),
  month: Type.String({ examples: ['2026-03'], description: 'The month of the log that the batch is in, UTC.' }),
  era: Count('Transactions are counted anew when the database moves to another server.'),
  from_xact: Count('The first transaction of the batch.'),
  to_xact: Count('The first transaction behind it.'),
  entries: Count('How many entries are in the batch.'),
  total: Count('How many entries were ever sealed, these included.'),
  root: Hash('Of the Merkle tree (RFC 9162) over the entries in the order (xact, id).'),
  previous: Hash('SHA-256 of the text of the checkpoint before; zeros for the first.'),
  sealed_at: Timestamp,
  key_id: Type.String({ description: 'The key that signed it: one of GET /audit/keys.' }),
  checkpoint: Note,
})

export const checkpointList = defineList('audit_seals', {
  sort: { batch: 'audit_seals_batch_key' },
  filters: range('batch', Count('Counts the checkpoints of the tenant from 1.'), 'audit_seals_batch_key'),
})

const Proof = Type.Object({
  id: Uuid,
  entry: Type.String({ description: 'The entry, byte for byte as it was sealed: one line of JSON.' }),
  leaf_index: Count('Its place among the leaves of the batch, from 0.'),
  tree_size: Count('How many leaves there are.'),
  path: Type.Array(Hash('Beside the way from the leaf to the root; the lowest first.')),
  checkpoint: Note,
})

const Keys = Type.Object({
  keys: Type.Array(
    Type.Object({
      kty: OneOf(['OKP']),
      crv: OneOf(['Ed25519']),
      x: Type.String(),
      kid: Type.String(),
      alg: OneOf(['EdDSA']),
      use: OneOf(['sig']),
    }),
  ),
})

// What we ask of the database

const columns = [
  'tenant_id',
  'id',
  'batch',
  'kind',
  'month',
  'era',
  'era_from',
  'from_xact',
  'to_xact',
  'entries',
  'total',
  'root',
  'previous',
  'sealed_at',
  'key_id',
  'signature',
] as const

const allSeals = (db: TenantDb) => db.selectFrom('audit_seals').select(columns)

type Seal = Awaited<ReturnType<ReturnType<typeof allSeals>['execute']>>[number]

const toCheckpoint = ({ tenant_id, era_from, signature, ...seal }: Seal): Static<typeof Checkpoint> => {
  const fields: Fields = {
    tenantId: tenant_id,
    batch: Number(seal.batch),
    kind: seal.kind as Fields['kind'],
    month: seal.month,
    era: seal.era,
    eraFrom: era_from,
    fromXact: Number(seal.from_xact),
    toXact: Number(seal.to_xact),
    entries: Number(seal.entries),
    total: Number(seal.total),
    root: seal.root,
    previous: seal.previous,
    sealedAt: microseconds(seal.sealed_at),
  }
  return {
    ...seal,
    batch: fields.batch,
    kind: fields.kind,
    from_xact: fields.fromXact,
    to_xact: fields.toXact,
    entries: fields.entries,
    total: fields.total,
    root: seal.root.toString('hex'),
    previous: seal.previous.toString('hex'),
    checkpoint: formatNote(formatCheckpoint(fields), seal.key_id, signature),
  }
}

type Proven = { entry: string; leaf_index: string | null; leaves: Buffer | null; note: string | null }

/** Throws not_sealed for an entry that is too new, and raises an alarm when the log is not what was sealed. */
const proveEntry = async (db: TenantDb, id: string): Promise<Static<typeof Proof>> => {
  const { rows } = await sql<Proven>`select * from app.audit_proof(${id})`.execute(db)
  const [found] = rows
  if (!found) throw new Problem('not_found')
  const { entry, leaf_index, leaves, note } = found
  if (leaf_index === null || leaves === null || note === null) {
    throw new Problem('not_sealed', {
      detail: 'It is sealed within seconds, as soon as no older transaction is open any more.',
      headers: { 'retry-after': '5' },
    })
  }
  const [index, size] = [Number(leaf_index), leaves.length / HASH_BYTES]
  const path = inclusionPath(index, leaves)
  const root = rootFromPath(leafHash(Buffer.from(entry)), { index, size, path })
  if (!root?.equals(parseCheckpoint(parseNote(note)?.text ?? '')?.root ?? Buffer.alloc(0))) {
    throw new Problem('internal', {
      alarm: 'audit_seal_broken',
      cause: new Error(`entry ${id} is not what was sealed`),
    })
  }
  return {
    id,
    entry,
    leaf_index: index,
    tree_size: size,
    path: path.map((hash) => hash.toString('hex')),
    checkpoint: note,
  }
}

const listKeys = async (db: TenantDb): Promise<Static<typeof Keys>> => {
  const { rows } = await sql<{ key_id: string; public_key: Buffer }>`
    select key_id, public_key from app.list_audit_keys()`.execute(db)
  const jwk = { kty: 'OKP', crv: 'Ed25519', alg: 'EdDSA', use: 'sig' } as const
  return { keys: rows.map(({ key_id, public_key }) => ({ ...jwk, x: public_key.toString('base64url'), kid: key_id })) }
}

// What the world may ask of us: who reads about the log is in the log

const permission = 'audit:read'

export const auditSeals: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/checkpoints',
    {
      schema: {
        operationId: 'listAuditCheckpoints',
        summary: 'List the signed checkpoints of the audit log',
        querystring: checkpointList.query,
        response: { 200: Page(Checkpoint) },
      },
      config: { permission, audited: 'audit_seals' },
    },
    async (request) => {
      const page = await request.page(checkpointList.narrow(allSeals(request.db), request.query), request.query)
      return { ...page, data: page.data.map(toCheckpoint) }
    },
  )

  app.get(
    '/proof/:id',
    {
      schema: {
        operationId: 'proveAuditLogEntry',
        summary: 'Prove that an entry of the audit log was sealed',
        params: ById,
        response: { 200: Proof },
      },
      config: { permission, audited: 'audit_log', problems: ['not_sealed'] },
    },
    async ({ db, params }) => proveEntry(db, params.id),
  )

  app.get(
    '/keys',
    {
      schema: {
        operationId: 'listAuditKeys',
        summary: 'The public keys of checkpoints, as a JWK set',
        response: { 200: Keys },
      },
      config: { permission },
    },
    async ({ db }) => listKeys(db),
  )
}
