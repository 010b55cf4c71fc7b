import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type Attempts, FailedAttempt } from '../../auth/attempts.ts'
import { type Codes, showingCode } from '../../auth/codes.ts'
import { Code, Email, Name, NewPassword, Slug } from '../../auth/fields.ts'
import type { FoundInvitation, Invitations, Joined, Taker } from '../../auth/invitations.ts'
import { hashOfMailedToken } from '../../auth/mailed-tokens.ts'
import { hashPassword, isPassword, PASSWORD_LENGTH, weaknessOf } from '../../auth/passwords.ts'
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
    totp: Type.Optional(Code),
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

type Options = Codes & { invitations: Invitations; attempts: Attempts }
type Body = Static<typeof Acceptance>

/** A token that is no good costs no hashing, and is written down. */
async function accept(app: FastifyInstance, parts: Options, body: Body, request: FastifyRequest): Promise<Joined> {
  const hash = hashOfMailedToken(body.token)
  const found = hash && (await parts.invitations.find(hash))
  const isSignedIn = request.headers.authorization !== undefined
  const joined =
    found &&
    (isSignedIn
      ? await bySession(app, parts, { hash, found }, request)
      : await byPassword(parts, { hash, found }, body, request))
  if (joined) return joined
  await parts.sessions.logRefusal(request, 'token_refused', { detail: { route: request.routeOptions.url } })
  throw new Problem('token_invalid')
}

// Who accepts. The token shows that they read what is sent to the address; who has an account with it shows besides that it is
// theirs, by their session or as they sign in: a mail that was forwarded makes nobody somebody else

type Token = { hash: Buffer; found: FoundInvitation }

/** Undefined for who is signed in as another. */
async function bySession(
  app: FastifyInstance,
  { sessions, invitations }: Options,
  { hash, found: { user_id: userId } }: Token,
  request: FastifyRequest,
): Promise<Joined | undefined> {
  const claims = readClaims(app, request)
  const profile = claims && (await sessions.findProfile(claims.secret))
  if (!profile) throw new Problem('unauthenticated')
  if (profile.user_id !== userId) return undefined
  return invitations.accept(hash, { userId, signedIn: true }, undefined, request)
}

async function byPassword(
  parts: Options,
  { hash, found }: Token,
  { name, password, totp: code }: Body,
  request: FastifyRequest,
): Promise<Joined | undefined> {
  const { user_id: userId, email } = found
  if (password === undefined) {
    throw refused('/password', userId === null ? 'is required' : 'is required of who has an account, or sign in')
  }
  return parts.attempts.signingIn(email, request, async () => {
    const taker = await takerOf(parts, found, { name, password }, request)
    if (userId === null) return parts.invitations.accept(hash, taker, undefined, request)
    return showingCode(parts, { person: { userId, email }, code, act: 'accepting_invitation' }, request, (shown) =>
      parts.invitations.accept(hash, taker, shown, request),
    )
  })
}

/** With a password of theirs, or one that is to be. */
async function takerOf(
  { sessions }: Options,
  { user_id: userId, password_hash: kept, ...found }: FoundInvitation,
  { name, password }: { name: string | undefined; password: string },
  request: FastifyRequest,
): Promise<Taker> {
  const { email, is_unused: isUnused, tenant_names: tenantNames } = found
  if (userId !== null && (await isPassword(password, kept))) return { userId }
  if (userId !== null && !isUnused) {
    await sessions.logRefusal(request, 'password_refused', { userId })
    throw new FailedAttempt('unprocessable', { errors: [{ path: '/password', message: 'is not your password' }] })
  }
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
          'Who has no account gets one, with the name and password that they send, and a verified address. Who has one says their password, with a code in `totp` where they have a second factor (401 `mfa_required` without), or sends an access token of theirs. The token is good once, in its time, and as long as whoever invited may still give that role. Sign in afterwards.',
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
          'mfa_required',
          'invalid_code',
          'too_many_failures',
        ],
      },
    },
    async (request, reply) => {
      reply.header('cache-control', 'no-store')
      return present(await accept(app, parts, request.body, request))
    },
  )
}
