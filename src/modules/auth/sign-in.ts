import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { type Attempts, FailedAttempt } from '../../auth/attempts.ts'
import { type Codes, showingCode } from '../../auth/codes.ts'
import type { Devices } from '../../auth/devices.ts'
import { isPassword } from '../../auth/passwords.ts'
import type { OpenSession } from '../../auth/sessions.ts'
import { Problem } from '../../errors.ts'
import { Uuid } from '../../lib/schemas.ts'
import { answerTokens, Code, Email, InCookie, Password, TokenAnswer } from './answers.ts'
import { choosingTenant } from './refusals.ts'

// What a person sends

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

const openSession = (
  parts: Options,
  { userId, email, tenant_id: tenantId, tenant_slug: tenantSlug, totp }: Opening,
  request: FastifyRequest,
): Promise<OpenSession> =>
  showingCode(parts, { person: { userId, email }, code: totp, act: 'signing_in' }, request, (shown) =>
    choosingTenant(parts.sessions, { userId, tenantId, slug: tenantSlug }, request, () =>
      parts.sessions.start(userId, { tenantId, tenantSlug }, request, shown),
    ),
  )

// What the world may ask of us

type Options = Codes & { attempts: Attempts; devices: Devices }

export const signIn: FastifyPluginAsyncTypebox<Options> = async (app, parts) => {
  const { devices } = parts
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
            'Without a tenant named, the only tenant of the person is chosen, unless it is suspended; among several none, and requests name it by header or subdomain. One that is suspended is 403 `tenant_suspended` when it is named. Who has a second factor sends a code of it in `totp`: without one the right password is answered 401 `mfa_required`. After many failures the next attempt waits (429 `too_many_failures`); a device on which the person has signed in before, known by its cookie, is counted apart.',
          security: [],
          body: Credentials,
          response: { 200: TokenAnswer },
        },
        config: {
          limit: 'sensitive',
          problems: [
            ...(['tenant_conflict', 'invalid_credentials', 'mfa_required', 'invalid_code'] as const),
            ...(['not_a_member', 'tenant_suspended', 'too_many_failures', 'cross_site'] as const),
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
