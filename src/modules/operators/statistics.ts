import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import { sql } from 'kysely'
import type { OperatorDb } from '../../db/door.ts'
import { Nullable, Timestamp } from '../../lib/schemas.ts'

// What operators learn of all tenants together

const Sum = Nullable(Type.Integer({ minimum: 0, examples: [42] }))

const Statistics = Type.Object(
  {
    computed_at: Nullable(Timestamp),
    tenants: Type.Object({
      total: Sum,
      by_status: Type.Object({ active: Sum, suspended: Sum, deleting: Sum }),
    }),
    people: Type.Object({ total: Sum }),
    projects: Type.Object({ total: Sum, median_per_tenant: Sum }),
  },
  {
    $id: 'Statistics',
    description: 'A number is null when fewer than five make it up, or when it would tell one that is null.',
  },
)

// What we ask of the database

const none = {
  computed_at: null,
  tenants: { total: null, by_status: { active: null, suspended: null, deleting: null } },
  people: { total: null },
  projects: { total: null, median_per_tenant: null },
} satisfies Static<typeof Statistics>

async function readStatistics(db: OperatorDb): Promise<Static<typeof Statistics>> {
  const { rows } = await sql<{ computed_at: string; numbers: Omit<Static<typeof Statistics>, 'computed_at'> }>`
    select * from app.read_statistics()`.execute(db)
  const [newest] = rows
  return newest ? { computed_at: newest.computed_at, ...newest.numbers } : none
}

// What the world may ask of us

export const statistics: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/statistics',
    {
      schema: {
        operationId: 'getStatistics',
        summary: 'Get sums over all tenants',
        description: 'As the worker added them up, at most an hour ago. Each look stands in the security log.',
        response: { 200: Statistics },
      },
      config: { operator: true, audited: 'statistics' },
    },
    async ({ operatorDb }) => readStatistics(operatorDb),
  )
}
