/**
 * Registering, by REGISTRATION:
 *   open      a session at once, so a taken address is told (409), as often as failures are
 *   verified  the same answer after the same work whoever has the address; a mail is the way on
 *   closed    nobody; tenants come from operators and the command line, people by invitation
 * In the last two a password opens nothing before its address was verified (src/auth/sessions.ts).
 */
import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { type Attempts, failedAs } from '../../auth/attempts.ts'
import type { Devices } from '../../auth/devices.ts'
import { hashPassword, weaknessOf } from '../../auth/passwords.ts'
import type { Recovery, Registration } from '../../auth/recovery.ts'
import type { OpenSession, Sessions } from '../../auth/sessions.ts'
import { isDatabaseError, Problem } from '../../errors.ts'
import { isReserved, slugOf } from '../../lib/slug.ts'
import { answerTokens, Email, InCookie, Name, NewPassword, Slug, TokenAnswer } from './answers.ts'
import { refused } from './refusals.ts'

// What is sent and answered

const Registrant = Type.Object(
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

const Asking = Type.Object(
  {
    ...Registrant.properties,
    password: Type.Optional({
      ...NewPassword,
      description:
        'Checked, and not kept: whoever reads the mail chooses it, and only they are known to have the address.',
    }),
  },
  { additionalProperties: false },
)

const detail = 'A mail to this address is on its way. Choose a password where its link leads, and sign in.'
const Asked = Type.Object({ detail: Type.String({ examples: [detail] }) })

// What registering is

/** Throws unprocessable for a password that would be guessed. */
function draftOf(body: Static<typeof Asking>): Omit<Registration, 'tenantSlug'> {
  const { password, name, tenant_name: tenantName, tenant_slug: slug } = body
  const email = body.email.toLowerCase()
  const tenantNames = slug === undefined ? [tenantName] : [tenantName, slug]
  const weakness = password === undefined ? undefined : weaknessOf(password, { email, tenantNames })
  if (weakness) throw refused('/password', weakness)
  return { email, name, tenantName }
}

async function registerAtOnce(
  { sessions, recovery, attempts }: Options,
  body: Static<typeof Registrant>,
  request: FastifyRequest,
): Promise<OpenSession> {
  const { tenant_slug: slug } = body
  if (slug !== undefined && isReserved(slug)) throw refused('/tenant_slug', 'is a name of the service itself')
  const draft = draftOf(body)
  const { email, name, tenantName } = draft
  const registration = {
    ...draft,
    passwordHash: await hashPassword(body.password),
    tenantSlug: slug ?? slugOf(tenantName),
    slugIsWish: slug === undefined,
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

/** The slug is a wish: one that is refused, or given, would tell whether a tenant was made before. */
async function askToRegister({ recovery }: Options, body: Static<typeof Asking>, request: FastifyRequest) {
  const { tenant_slug: slug, tenant_name: name } = body
  const tenantSlug = slug === undefined || isReserved(slug) ? slugOf(slug ?? name) : slug
  await recovery.askRegistration({ ...draftOf(body), tenantSlug }, request)
  return { detail }
}

// What the world may ask of us

type Options = {
  mode: 'open' | 'verified' | 'closed'
  sessions: Sessions
  recovery: Recovery
  attempts: Attempts
  devices: Devices
}

const operation = { operationId: 'register', summary: 'Register with a tenant of your own', security: [] }

const ways: Record<Options['mode'], FastifyPluginAsyncTypebox<Options>> = {
  async open(app, parts) {
    app.post(
      '/register',
      {
        schema: {
          ...operation,
          description:
            'A slug that is left out is made from the tenant’s name. The answer is that of a login. A mail asks to verify the address.',
          body: Registrant,
          response: { 201: TokenAnswer },
        },
        config: {
          limit: 'sensitive',
          problems: ['email_taken', 'slug_taken', 'unprocessable', 'too_many_failures', 'cross_site'],
        },
      },
      async (request, reply) => {
        const session = await registerAtOnce(parts, request.body, request)
        parts.devices.remember(session.email, request, reply)
        reply.code(201).header('location', `${app.prefix}/profile`)
        return answerTokens(app, reply, session)
      },
    )
  },

  async verified(app, parts) {
    app.post(
      '/register',
      {
        schema: {
          ...operation,
          description:
            'A mail with a link goes to the address; the account and its tenant are made when its token comes back with a password (POST /auth/email/verify), and then you sign in with that. A slug that is left out is made from the tenant’s name; one that is taken by then, or a name of the service itself, gets an ending. Whether somebody has the address does not show: whoever has it is told by mail. At most five mails an hour go to one address.',
          body: Asking,
          response: { 201: Asked },
        },
        config: { limit: 'sensitive', problems: ['unprocessable', 'cross_site'] },
      },
      async (request, reply) => {
        const asked = await askToRegister(parts, request.body, request)
        reply.code(201).header('cache-control', 'no-store')
        return asked
      },
    )
  },

  async closed(app) {
    app.post(
      '/register',
      {
        schema: { ...operation, description: 'Nobody registers here. Be invited, or ask whoever runs this service.' },
        config: { limit: 'sensitive', problems: ['registration_closed'] },
        // whatever they send
        onRequest: async () => {
          throw new Problem('registration_closed')
        },
      },
      async () => null,
    )
  },
}

export const registration: FastifyPluginAsyncTypebox<Options> = async (app, options) => ways[options.mode](app, options)
