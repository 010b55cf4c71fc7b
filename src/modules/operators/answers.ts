import { type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import { sql } from 'kysely'
import { Email, Name, Slug } from '../../auth/fields.ts'
import type { OperatorTokens } from '../../auth/operator-tokens.ts'
import type { OperatorSession } from '../../auth/operators.ts'
import type { OperatorDb } from '../../db/door.ts'
import { Problem } from '../../errors.ts'
import { Nullable, OneOf, Timestamp, Uuid, Version } from '../../lib/schemas.ts'

// What operators are shown

export const Operator = Type.Object(
  {
    id: Uuid,
    email: Email,
    name: Name,
    status: OneOf(['active', 'deactivated']),
    created_by: Nullable({ ...Uuid, description: 'The operator who made it; null: the command line.' }),
    created_at: Timestamp,
    updated_at: Timestamp,
    version: Version,
  },
  { $id: 'Operator' },
)

export const TenantStatus = OneOf(['active', 'suspended', 'deleting'])

/** Of a tenant an operator sees what it is called and how it stands. */
export const Tenant = Type.Object(
  {
    id: Uuid,
    slug: Slug,
    name: Name,
    status: TenantStatus,
    deletion_marked_at: Nullable(Timestamp),
    erase_after: Nullable({ ...Timestamp, description: 'Until then a tenant that is deleted can be activated again.' }),
    legal_hold_since: Nullable(Timestamp),
    legal_hold_reason: Nullable(Type.String()),
    created_at: Timestamp,
    updated_at: Timestamp,
    version: Version,
  },
  { $id: 'TenantAccount' },
)

export async function findTenant(db: OperatorDb, id: string): Promise<Static<typeof Tenant>> {
  const { rows } = await sql<Static<typeof Tenant>>`select * from app.list_tenants_as_operator(${id})`.execute(db)
  const [found] = rows
  if (!found) throw new Problem('not_found', { detail: 'There is no such tenant.' })
  return found
}

// What signing in and refreshing answer

export const refreshTokenExample = 'bhr_AZl7DnosfMOh3mtNLwyeEQAAAAHiUu5f6onx13oMGW-GMeTEsJJz70MfQ5MkTTdfaPCMxg'

export const OperatorTokenAnswer = Type.Object(
  {
    access_token: Type.String({
      description: 'For operators’ routes only.',
      examples: ['eyJhbGciOiJSUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6IjIwMjYtMDMifQ.e30.c2lnbmF0dXJl'],
    }),
    refresh_token: Type.String({
      description: 'Good once: exchange it at /operators/token/refresh.',
      examples: [refreshTokenExample],
    }),
    token_type: Type.Literal('Bearer'),
    expires_in: Type.Integer({ description: 'How long the access token is good for, in seconds.', examples: [600] }),
    operator: Type.Object({ id: Uuid, email: Email, name: Name, created_at: Timestamp }),
  },
  { $id: 'OperatorTokenAnswer' },
)

export const answerOperator = (
  tokens: OperatorTokens,
  reply: FastifyReply,
  session: OperatorSession,
): Static<typeof OperatorTokenAnswer> => {
  reply.header('cache-control', 'no-store') // RFC 6749, 5.1
  const { operator_id: id, email, name, created_at, secret, refreshToken } = session
  return {
    access_token: tokens.sign({ sub: id, secret }),
    refresh_token: refreshToken,
    token_type: 'Bearer',
    expires_in: tokens.ttl,
    operator: { id, email, name, created_at },
  }
}
