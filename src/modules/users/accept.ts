import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type Attempts, FailedAttempt } from '../../auth/attempts.ts'
import { Email, Name, NewPassword, Slug } from '../../auth/fields.ts'
import type { FoundInvitation, Invitations, Joined, Taker } from '../../auth/invitations.ts'
import { hashOfMailedToken } from '../../auth/mailed-tokens.ts'
import { hashPassword, isPassword, PASSWORD_LENGTH, weaknessOf } from '../../auth/passwords.ts'
import type { Sessions } from '../../auth/sessions.ts'
import { Problem } from '../../errors.ts'
import { Uuid } from '../../lib/schemas.ts'
import { readClaims } from '../../plugins/auth.ts'
import { RoleName } from './inviting.ts'

// What is sent and answered

const Acceptance = Type.Object(
  {
    token: Type.String({
      minLength: 1,
      maxLength: 512,
      description: 'From the link in the mail.',
      examples: ['bht_K5b7YzE0Qm3x1vWcT8sUoPjR2nDfHgLiA6kXeZqVyMw'],
    }),
    name: Type.Optional(Name),
    password: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: PASSWORD_LENGTH.max,
        description: 'Of who has an account: theirs. Of who has none: the one that they choose.',
        examples: NewPassword.examples as string[],
      }),
    ),
  },
  { additionalProperties: false },
)

const Accepted = Type.Object({
  id: { ...Uuid, description: 'Of the membership.' },
  role: RoleName,
  tenant: Type.Object({ id: Uuid, slug: Slug, name: Name }),
  user: Type.Object({ id: Uuid, email: Email, name: Name }),
})

const present = ({ id, role, tenant_id, tenant_slug, tenant_name, user_id, email, name }: Joined) => ({
  ...{ id, role },
  tenant: { id: tenant_id, slug: tenant_slug, name: tenant_name },
  user: { id: user_id, email, name },
})

// What accepting is

type Options = { sessions: Sessions; invitations: Invitations; attempts: Attempts }
type Body = Static<typeof Acceptance>

/** A token that is no good costs no hashing, and is written down. */
async function accept(app: FastifyInstance, parts: Options, body: Body, request: FastifyRequest): Promise<Joined> {
  const hash = hashOfMailedToken(body.token)
  const found = hash && (await parts.invitations.find(hash))
  const taker = found && (await takerOf(app, parts, found, body, request))
  const joined = hash && taker && (await parts.invitations.accept(hash, taker, request))
  if (joined) return joined
  await parts.sessions.logRefusal(request, 'token_refused', { detail: { route: request.routeOptions.url } })
  throw new Problem('token_invalid')
}

/**
 * Who accepts. The token shows that they read what is sent to the address; who has an account with it shows besides that it is
 * theirs, by their session or their password: a mail that was forwarded makes nobody somebody else. Undefined for who is
 * signed in as another.
 */
async function takerOf(
  app: FastifyInstance,
  { sessions, attempts }: Options,
  found: FoundInvitation,
  { name, password }: Body,
  request: FastifyRequest,
): Promise<Taker | undefined> {
  const { user_id: userId, password_hash: kept } = found
  if (request.headers.authorization !== undefined) {
    const claims = readClaims(app, request)
    const profile = claims && (await sessions.findProfile(claims.secret))
    if (!profile) throw new Problem('unauthenticated')
    return profile.user_id === userId ? { userId } : undefined
  }
  if (password === undefined) {
    throw refused('/password', userId === null ? 'is required' : 'is required of who has an account, or sign in')
  }
  const { email, is_unused: isUnused, tenant_names: tenantNames } = found
  const isTheirs = await attempts.signingIn(email, request, async () => {
    if (userId === null || (await isPassword(password, kept))) return userId !== null
    if (isUnused) return false
    await sessions.logRefusal(request, 'password_refused', { userId })
    throw new FailedAttempt('unprocessable', { errors: [{ path: '/password', message: 'is not your password' }] })
  })
  if (userId !== null && isTheirs) return { userId }
  if (name === undefined && found.name === null) throw refused('/name', 'is required')
  const weakness = weaknessOf(password, { email, tenantNames })
  if (weakness) throw refused('/password', weakness)
  return { userId, name, passwordHash: await hashPassword(password) }
}

const refused = (path: string, message: string) => new Problem('unprocessable', { errors: [{ path, message }] })

// What the world may ask of us

/** Registered where nobody has to be signed in. */
export const acceptInvitation: FastifyPluginAsyncTypebox<Options> = async (app, parts) => {
  app.post(
    '/accept',
    {
      schema: {
        operationId: 'acceptInvitation',
        summary: 'Accept an invitation with the token of its mail',
        description:
          'Who has no account gets one, with the name and password that they send, and a verified address. Who has one says their password, or sends an access token of theirs. The token is good once, in its time, and as long as whoever invited may still give that role. Sign in afterwards.',
        security: [{ bearer: [] }, {}],
        body: Acceptance,
        response: { 200: Accepted },
      },
      config: {
        limit: 'sensitive',
        problems: [
          'token_invalid',
          'already_member',
          'email_taken',
          'unprocessable',
          'too_many_failures',
          'overloaded',
        ],
      },
    },
    async (request, reply) => {
      reply.header('cache-control', 'no-store')
      return present(await accept(app, parts, request.body, request))
    },
  )
}
