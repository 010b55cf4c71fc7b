import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { type Attempts, FailedAttempt, failedAs } from '../../auth/attempts.ts'
import type { Devices } from '../../auth/devices.ts'
import { hashPassword, isPassword, weaknessOf } from '../../auth/passwords.ts'
import type { Recovery } from '../../auth/recovery.ts'
import type { SecondFactors } from '../../auth/second-factors.ts'
import type { OpenSession, Sessions } from '../../auth/sessions.ts'
import { isDatabaseError, Problem } from '../../errors.ts'
import { Uuid } from '../../lib/schemas.ts'
import { isReserved, slugOf } from '../../lib/slug.ts'
import { answerTokens, Code, Email, InCookie, Name, NewPassword, Password, Slug, TokenAnswer } from './answers.ts'
import { choosingTenant, refused } from './refusals.ts'

// What a person sends

const Registration = Type.Object(
  {
    email: Email,
    password: NewPassword,
    name: Name,
    tenant_name: Name,
    tenant_slug: Type.Optional(Slug),
    cookie: Type.Optional(InCookie),
  },
  { additionalProperties: false },
)

const Credentials = Type.Object(
  {
    email: Email,
    password: Password,
    tenant_id: Type.Optional(Uuid),
    tenant_slug: Type.Optional(Type.String({ maxLength: 63, examples: ['acme'] })),
    totp: Type.Optional(Code),
    cookie: Type.Optional(InCookie),
  },
  { additionalProperties: false },
)

// What signing in is

async function register(
  { sessions, recovery, attempts }: Options,
  body: Static<typeof Registration>,
  request: FastifyRequest,
): Promise<OpenSession> {
  const { password, name, tenant_name, tenant_slug } = body
  const email = body.email.toLowerCase()
  const tenantNames = [tenant_name, ...(tenant_slug === undefined ? [] : [tenant_slug])]
  const weakness = weaknessOf(password, { email, tenantNames })
  if (weakness) throw refused('/password', weakness)

  if (tenant_slug !== undefined && isReserved(tenant_slug))
    throw refused('/tenant_slug', 'is a name of the service itself')

  const registration = {
    email,
    passwordHash: await hashPassword(password),
    name,
    tenantName: tenant_name,
    tenantSlug: tenant_slug ?? slugOf(tenant_name),
    slugIsWish: tenant_slug === undefined,
  }
  // that an address is taken can be asked only so often
  return attempts.fromAddress(request, () =>
    sessions.register(registration, recovery.verificationOf(email, name), request).catch(async (error) => {
      if (!isDatabaseError(error) || error.constraint !== 'users_email_key') throw error
      await recovery.tellOfRegistration(email)
      throw failedAs('email_taken', error)
    }),
  )
}

/**
 * Whether the address is unknown or the password wrong, and whether there is a second factor or not, the same work is done
 * and the same is answered. That a code is needed hears only who knows the password.
 */
async function login(parts: Options, body: Static<typeof Credentials>, request: FastifyRequest): Promise<OpenSession> {
  if (body.tenant_id !== undefined && body.tenant_slug !== undefined) throw new Problem('tenant_conflict')
  const email = body.email.toLowerCase()
  return parts.attempts.signingIn(email, request, async () => {
    const userId = await knowPassword(parts, { email, password: body.password }, request)
    return openSession(parts, { ...body, userId, email }, request)
  })
}

async function knowPassword(
  { sessions }: Options,
  { email, password }: { email: string; password: string },
  request: FastifyRequest,
): Promise<string> {
  const { user_id: userId, password_hash } = await sessions.findCredential(email)
  const genuine = await isPassword(password, password_hash)
  if (genuine && userId !== null) return userId
  await sessions.logRefusal(request, 'login_failed', { userId, detail: { email } })
  throw new FailedAttempt('invalid_credentials')
}

type Opening = Pick<Static<typeof Credentials>, 'email' | 'tenant_id' | 'tenant_slug' | 'totp'> & { userId: string }

async function openSession(
  { sessions, secondFactors }: Options,
  { userId, email, tenant_id: tenantId, tenant_slug: tenantSlug, totp }: Opening,
  request: FastifyRequest,
): Promise<OpenSession> {
  const shown = totp === undefined ? undefined : await secondFactors.readCode({ userId, email }, totp, request.log)
  try {
    return await choosingTenant(sessions, { userId, tenantId, slug: tenantSlug }, request, () =>
      sessions.start(userId, { tenantId, tenantSlug }, request, shown),
    )
  } catch (error) {
    if (!isDatabaseError(error) || error.code !== 'BH027') throw error
    await sessions.logRefusal(request, 'mfa_refused', { userId })
    await secondFactors.tellOfCode(userId, email)
    throw failedAs('invalid_code', error)
  }
}

// What the world may ask of us

type Options = {
  sessions: Sessions
  recovery: Recovery
  secondFactors: SecondFactors
  attempts: Attempts
  devices: Devices
}

export const signIn: FastifyPluginAsyncTypebox<Options> = async (app, parts) => {
  const { devices } = parts
  app.post(
    '/register',
    {
      schema: {
        operationId: 'register',
        summary: 'Register with a tenant of your own',
        description:
          'A slug that is left out is made from the tenant’s name. The answer is that of a login. A mail asks to verify the address.',
        security: [],
        body: Registration,
        response: { 201: TokenAnswer },
      },
      config: {
        limit: 'sensitive',
        problems: ['email_taken', 'slug_taken', 'unprocessable', 'too_many_failures', 'overloaded', 'cross_site'],
      },
    },
    async (request, reply) => {
      const session = await register(parts, request.body, request)
      devices.remember(session.email, request, reply)
      reply.code(201).header('location', `${app.prefix}/profile`)
      return answerTokens(app, reply, session)
    },
  )

  for (const [path, operationId, summary] of [
    ['/login', 'login', 'Sign in'],
    ['/token', 'createToken', 'Sign in (another name of login)'],
  ] as const) {
    app.post(
      path,
      {
        schema: {
          operationId,
          summary,
          description:
            'Without a tenant named, the only tenant of the person is chosen; among several none, and requests name it by header or subdomain. Who has a second factor sends a code of it in `totp`: without one the right password is answered 401 `mfa_required`. After many failures the next attempt waits (429 `too_many_failures`); a device on which the person has signed in before, known by its cookie, is counted apart.',
          security: [],
          body: Credentials,
          response: { 200: TokenAnswer },
        },
        config: {
          limit: 'sensitive',
          problems: [
            ...(['tenant_conflict', 'invalid_credentials', 'mfa_required', 'invalid_code'] as const),
            ...(['not_a_member', 'tenant_suspended', 'too_many_failures', 'overloaded', 'cross_site'] as const),
          ],
        },
      },
      async (request, reply) => {
        const session = await login(parts, request.body, request)
        devices.remember(session.email, request, reply)
        return answerTokens(app, reply, session)
      },
    )
  }
}
