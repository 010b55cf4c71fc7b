import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { Attempts } from '../../auth/attempts.ts'
import type { Account } from '../../auth/own.ts'
import { hashPassword, isPassword, weaknessOf } from '../../auth/passwords.ts'
import type { LogsRefusals } from '../../auth/security-log.ts'
import { Problem } from '../../errors.ts'
import { ById, Nullable, Page, ShortListQuery, Timestamp, Uuid } from '../../lib/schemas.ts'
import type { ShortList } from '../../plugins/short-list.ts'
import { NewPassword, Password } from './answers.ts'
import { type Audience, people } from './audience.ts'
import { confirmPassword, failed, refused } from './refusals.ts'

// What is a person's own, and an operator's

const Session = Type.Object({
  id: Uuid,
  current: Type.Boolean({ description: 'The one that asks.' }),
  address: Nullable(Type.String({ description: 'Where it began.', examples: ['203.0.113.7'] })),
  user_agent: Nullable(Type.String({ description: 'What it began with.', examples: ['curl/8.14.1'] })),
  created_at: Timestamp,
  refreshed_at: Timestamp,
  idle_expires_at: { ...Timestamp, description: 'When it ends, unless it is refreshed before.' },
  expires_at: { ...Timestamp, description: 'When it ends in any case.' },
})

const PersonSession = Type.Object({
  ...Session.properties,
  tenant_id: Nullable({ ...Uuid, description: 'The tenant that its tokens name.' }),
})

const PasswordChange = Type.Object(
  { current_password: Password, new_password: NewPassword },
  { additionalProperties: false },
)

// What changing a password is

async function changePassword(
  parts: Options,
  body: Static<typeof PasswordChange>,
  request: FastifyRequest,
): Promise<void> {
  const said = { path: '/current_password', password: body.current_password }
  const credential = await confirmPassword(parts, said, request)
  const { email, password_hash: kept, tenant_names: tenantNames } = credential
  if (await isPassword(body.new_password, kept)) throw refused('/new_password', 'must be another one')
  const weakness = weaknessOf(body.new_password, { email, tenantNames })
  if (weakness) throw refused('/new_password', weakness)

  const changed = await parts.own.changePassword(
    request.claims.secret,
    credential,
    await hashPassword(body.new_password),
    request,
  )
  if (!changed) throw failed('/current_password', 'is not your password')
}

// What the world may ask of us: registered where an access token is needed

type Options = {
  sessions: LogsRefusals
  own: Account
  attempts: Attempts
  shortList: ShortList
  audience?: Audience
}

export const account: FastifyPluginAsyncTypebox<Options> = async (app, parts) => {
  const { security, operation, inTenants } = parts.audience ?? people

  app.get(
    '/sessions',
    {
      schema: {
        operationId: operation('list', 'Sessions'),
        security,
        summary: 'List your sessions',
        description: 'Those that are alive, the newest first: where you are signed in.',
        querystring: ShortListQuery,
        response: { 200: Page(inTenants ? PersonSession : Session) },
      },
    },
    async ({ claims, query }) =>
      parts.shortList(await parts.own.listSessions(claims.secret), query, {
        ...{ name: `${claims.sub} ${app.prefix}/sessions`, placeOf: ({ id }) => id, backwards: true },
      }),
  )

  app.delete(
    '/sessions/:id',
    {
      schema: {
        operationId: operation('end', 'Session'),
        security,
        summary: 'End one of your sessions',
        description: 'Its tokens are refused from then on. To end all of them, sign out everywhere.',
        params: ById,
        response: { 204: Type.Null() },
      },
      config: { problems: ['not_found'] },
    },
    async (request, reply) => {
      const ended = await parts.own.endSession(request.claims.secret, request.params.id, request)
      if (!ended) throw new Problem('not_found')
      reply.code(204)
      return null
    },
  )

  app.post(
    '/password/change',
    {
      schema: {
        operationId: operation('change', 'Password'),
        security,
        summary: 'Change your password',
        description: 'Every other session of yours ends; this one goes on.',
        body: PasswordChange,
        response: { 204: Type.Null() },
      },
      config: { limit: 'sensitive', problems: ['unprocessable', 'too_many_failures'] },
    },
    async (request, reply) => {
      await parts.attempts.inSession(request, () => changePassword(parts, request.body, request))
      reply.code(204)
      return null
    },
  )
}
