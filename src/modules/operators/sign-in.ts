import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { type Attempts, FailedAttempt } from '../../auth/attempts.ts'
import { showingCode } from '../../auth/codes.ts'
import type { Devices } from '../../auth/devices.ts'
import { Code, Email, Password } from '../../auth/fields.ts'
import type { OperatorTokens } from '../../auth/operator-tokens.ts'
import type { OperatorSessions } from '../../auth/operators.ts'
import { isPassword } from '../../auth/passwords.ts'
import type { SecondFactors } from '../../auth/second-factors.ts'
import { Problem } from '../../errors.ts'
import { tokenOf } from '../../plugins/auth.ts'
import { answerOperator, OperatorTokenAnswer, refreshTokenExample } from './answers.ts'

// What an operator sends

const Credentials = Type.Object(
  { email: Email, password: Password, totp: Type.Optional(Code) },
  { additionalProperties: false },
)

const Refresh = Type.Object(
  { refresh_token: Type.String({ minLength: 1, maxLength: 512, examples: [refreshTokenExample] }) },
  { additionalProperties: false },
)

const Logout = Type.Object(
  { everywhere: Type.Optional(Type.Boolean({ description: 'End every session of this operator.', examples: [true] })) },
  { additionalProperties: false },
)

// What signing in is

/**
 * As it is for people: whether the address is unknown or the password wrong, and whether there is a second factor or not, the
 * same work is done and the same is answered; that a code is needed hears only who knows the password.
 */
async function login(parts: Options, body: Static<typeof Credentials>, request: FastifyRequest) {
  const email = body.email.toLowerCase()
  return parts.attempts.signingIn(accountOf(email), request, async () => {
    const { operator_id: operatorId, password_hash } = await parts.sessions.findCredential(email)
    const genuine = await isPassword(body.password, password_hash)
    if (genuine && operatorId !== null) {
      const person = { userId: operatorId, email }
      return showingCode(parts, { person, code: body.totp, act: 'signing_in' }, request, (shown) =>
        parts.sessions.start(operatorId, request, shown),
      )
    }
    await parts.sessions.logRefusal(request, 'operator_login_failed', { userId: operatorId, detail: { email } })
    throw new FailedAttempt('invalid_credentials')
  })
}

/** Under what attempts are counted, and devices known: apart from those of a person with the same address. */
const accountOf = (email: string): string => `operator ${email}`

// What the world may ask of us

type Options = {
  sessions: OperatorSessions
  secondFactors: SecondFactors
  attempts: Attempts
  devices: Devices
  tokens: OperatorTokens
}

export const operatorSignIn: FastifyPluginAsyncTypebox<Options> = async (app, parts) => {
  const { sessions, devices, tokens } = parts

  app.post(
    '/login',
    {
      schema: {
        operationId: 'loginOperator',
        summary: 'Sign in as an operator',
        description:
          'Operators are no members of tenants: their tokens open operators’ routes, and no others do. Who has a second factor sends a code of it in `totp`; without one the right password is answered 401 `mfa_required`. After many failures the next attempt waits.',
        security: [],
        body: Credentials,
        response: { 200: OperatorTokenAnswer },
      },
      config: {
        limit: 'sensitive',
        problems: ['invalid_credentials', 'mfa_required', 'invalid_code', 'too_many_failures'],
      },
    },
    async (request, reply) => {
      const session = await login(parts, request.body, request)
      devices.remember(accountOf(session.email), request, reply)
      return answerOperator(tokens, reply, session)
    },
  )

  app.post(
    '/token/refresh',
    {
      schema: {
        operationId: 'refreshOperatorToken',
        summary: 'Exchange an operator’s refresh token',
        description:
          'Each is good once. The one before the current is still answered for 10 seconds; any older one ends the session.',
        security: [],
        body: Refresh,
        response: { 200: OperatorTokenAnswer },
      },
      config: { limit: 'sensitive', problems: ['invalid_token'] },
    },
    async (request, reply) =>
      answerOperator(tokens, reply, await sessions.refresh(request.body.refresh_token, request)),
  )

  app.post(
    '/logout',
    {
      schema: {
        operationId: 'logoutOperator',
        summary: 'Sign out as an operator',
        description: 'The access token says which session ends. Ending what has ended is no error.',
        security: [{ operator: [] }],
        body: Logout,
        response: { 204: Type.Null() },
      },
      config: { bodyOptional: true },
      preValidation: async (request) => {
        request.body ??= {}
      },
    },
    async (request, reply) => {
      const token = tokenOf(request)
      const claims = token === undefined ? undefined : tokens.verify(token)
      if (!claims) throw new Problem('unauthenticated')
      await sessions.end(claims.secret, request.body.everywhere ?? false, request)
      reply.code(204)
      return null
    },
  )
}
