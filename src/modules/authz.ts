import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import { sql } from 'kysely'
import type { TenantDb } from '../db/door.ts'
import { Problem } from '../errors.ts'
import { Nullable, OneOf, Uuid } from '../lib/schemas.ts'

// What an explanation looks like

const Word = (example: string, description: string) =>
  Type.String({ pattern: '^[a-z_-]+$', maxLength: 63, examples: [example], description })

const Question = Type.Object(
  {
    action: Word('delete', 'What follows the colon of a permission.'),
    resource: Word('projects', 'What stands in front of it.'),
    id: Type.Optional({ ...Uuid, description: 'Of one row; without it, whether there could be any.' }),
  },
  { additionalProperties: false },
)

const reasons = [
  'allowed',
  'depends_on_row',
  'permission_missing',
  'privilege_missing',
  'no_policy',
  'policy_refuses',
  'row_absent',
] as const

const Policy = Type.Object({
  name: Type.String({ examples: ['wall'] }),
  command: OneOf(['all', 'select', 'insert', 'update', 'delete']),
  permissive: Type.Boolean({ description: 'One of these must pass; of the others, which restrict, each.' }),
  using: Nullable(Type.String()),
  check: Nullable(Type.String()),
  passes: Nullable(Type.Boolean({ description: 'null: it depends on the row, or there is none.' })),
})

const Explanation = Type.Object(
  {
    allowed: Type.Boolean({ description: 'Without an id: whether some row could be.' }),
    reason: OneOf(reasons, { description: 'The first that decides. More codes may come.' }),
    because: Type.String({ examples: ['The role member does not have projects:delete; it belongs to manager.'] }),
    role: Nullable(Type.String({ examples: ['member'] })),
    permission: Type.Object({
      name: Type.String({ examples: ['projects:delete'] }),
      description: Type.String({ examples: ['Delete projects.'] }),
      held: Type.Boolean(),
      roles: Type.Array(Type.String(), { description: 'Who has it.' }),
    }),
    context: Type.Object({
      tenant_id: Uuid,
      tenant: Type.String({ examples: ['acme'] }),
      actor_kind: Type.String({ examples: ['user'] }),
      actor_id: Nullable(Uuid),
      on_behalf_of: Nullable(Uuid),
      role: Nullable(Type.String()),
    }),
    privilege: Type.Union(
      [
        Type.Object({
          table: Type.String({ examples: ['app.projects'] }),
          command: OneOf(['select', 'insert', 'update', 'delete']),
          database_role: Type.String({ examples: ['app_api'] }),
          held: Type.Boolean(),
        }),
        Type.Null(),
      ],
      { description: 'null: no table is asked, the permission decides.' },
    ),
    row: Type.Union([OneOf(['visible', 'absent']), Type.Null()], {
      description: 'absent: there is none in this tenant, for you. null: no row was looked for.',
    }),
    policies: Type.Array(Policy),
  },
  { $id: 'Explanation' },
)

// What we ask of the database

const explain = async (db: TenantDb, { action, resource, id }: Static<typeof Question>) => {
  const { rows } = await sql<{ answer: Static<typeof Explanation> | null }>`
    select app.explain(${action}, ${resource}, ${id ?? null}::uuid) as answer`.execute(db)
  const answer = rows[0]?.answer
  if (!answer) throw new Problem('unprocessable', { detail: `There is no permission ${resource}:${action}.` })
  return answer
}

// What the world may ask of us

export const authz: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/explain',
    {
      schema: {
        operationId: 'explainAccess',
        summary: 'Ask what you may do, and why',
        description:
          'Which role, permission, privilege and policy decide. `action` and `resource` are the halves of a permission; `write` without an `id` is creating. Another tenant’s row is answered as one that does not exist.',
        querystring: Question,
        response: { 200: Explanation },
      },
      config: { permission: 'authz:read', problems: ['unprocessable'] },
    },
    async ({ db, query }) => explain(db, query),
  )
}
