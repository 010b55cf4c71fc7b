import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { hashPassword, isPassword, weaknessOf } from '../../auth/passwords.ts'
import type { Recovery } from '../../auth/recovery.ts'
import type { OpenSession, Sessions } from '../../auth/sessions.ts'
import { Problem } from '../../errors.ts'
import { Uuid } from '../../lib/schemas.ts'
import { isReserved, slugOf } from '../../lib/slug.ts'
import { answerTokens, Email, InCookie, Name, NewPassword, Password, Slug, TokenAnswer } from './answers.ts'
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
    cookie: Type.Optional(InCookie),
  },
  { additionalProperties: false },
)

// What signing in is

async function register(
  { sessions, recovery }: Options,
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

  return sessions.register(
    {
      email,
      passwordHash: await hashPassword(password),
      name,
      tenantName: tenant_name,
      tenantSlug: tenant_slug ?? slugOf(tenant_name),
      slugIsWish: tenant_slug === undefined,
    },
    recovery.verificationOf(email, name),
    request,
  )
}

/** Whether the address is unknown or the password wrong, the same work is done and the same is answered. */
async function login(sessions: Sessions, body: Static<typeof Credentials>, request: FastifyRequest) {
  const { password, tenant_id: tenantId, tenant_slug: tenantSlug } = body
  if (tenantId !== undefined && tenantSlug !== undefined) throw new Problem('tenant_conflict')

  const email = body.email.toLowerCase()
  const { user_id: userId, password_hash } = await sessions.findCredential(email)
  const genuine = await isPassword(password, password_hash)
  if (!genuine || userId === null) {
    await sessions.logRefusal(request, 'login_failed', { userId, detail: { email } })
    throw new Problem('invalid_credentials')
  }

  return choosingTenant(sessions, { userId, tenantId, slug: tenantSlug }, request, () =>
    sessions.start(userId, { tenantId, tenantSlug }, request),
  )
}

// What the world may ask of us

type Options = { sessions: Sessions; recovery: Recovery }

export const signIn: FastifyPluginAsyncTypebox<Options> = async (app, parts) => {
  const { sessions } = parts
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
        problems: ['email_taken', 'slug_taken', 'unprocessable', 'overloaded', 'cross_site'],
      },
    },
    async (request, reply) => {
      const session = await register(parts, request.body, request)
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
            'Without a tenant named, the only tenant of the person is chosen; among several none, and requests name it by header or subdomain.',
          security: [],
          body: Credentials,
          response: { 200: TokenAnswer },
        },
        config: {
          limit: 'sensitive',
          problems: [
            'tenant_conflict',
            'invalid_credentials',
            'not_a_member',
            'tenant_suspended',
            'overloaded',
            'cross_site',
          ],
        },
      },
      async (request, reply) => answerTokens(app, reply, await login(sessions, request.body, request)),
    )
  }
}
