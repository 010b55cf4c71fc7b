/** What a bulk looks like: its operations, and the verdicts on them. */
import { type Static, Type } from '@fastify/type-provider-typebox'
import { Nullable, Uuid, Version } from '../../lib/schemas.ts'
import { NewTask, TaskPatch } from './task.ts'

const strict = { additionalProperties: false }
const IfVersion = Type.Optional({
  ...Version,
  description: 'The one that was read: it is refused when that has passed.',
})

const Create = Type.Object({ op: Type.Literal('create'), data: NewTask }, strict)
const Update = Type.Object({ op: Type.Literal('update'), id: Uuid, data: TaskPatch, version: IfVersion }, strict)
const Delete = Type.Object({ op: Type.Literal('delete'), id: Uuid, version: IfVersion }, strict)
export const shapes = { create: Create, update: Update, delete: Delete }

export type Operation = Static<typeof Create> | Static<typeof Update> | Static<typeof Delete>

/** An operation that has the right shape, and its place among all. */
export type Numbered<O extends Operation = Operation> = { index: number; operation: O }

const many = { minItems: 1, maxItems: 1_000 }
const atomic = Type.Optional(
  Type.Boolean({
    default: true,
    description: 'All or nothing. Without, what can be done is done, and each operation has its verdict.',
  }),
)

export const Bulk = Type.Object({ operations: Type.Array(Type.Union([Create, Update, Delete]), many), atomic }, strict)

/** What refuses a request as a whole, whatever is in its operations. */
export const Envelope = Type.Object({ operations: Type.Array(Type.Object({}), many), atomic }, strict)

const Verdict = Type.Object({
  index: Type.Integer({ minimum: 0, description: 'Of the operation.' }),
  status: Type.Integer({ examples: [201], description: 'What a request for it alone would have been answered.' }),
  id: Nullable(Uuid),
  version: Nullable(Version),
  code: Type.Optional(Type.String({ examples: ['not_found'], description: 'The problem of one that was not done.' })),
  errors: Type.Optional(Type.Array(Type.Object({ path: Type.String(), message: Type.String() }))),
})

export const Verdicts = Type.Object({
  results: Type.Array(Verdict, { description: 'One for each operation, in their order.' }),
  succeeded: Type.Integer({ minimum: 0 }),
  failed: Type.Integer({ minimum: 0 }),
})
