import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Email, Password } from '../../auth/fields.ts'
import type { OperatorTokens } from '../../auth/operator-tokens.ts'
import type { OperatorSession, OperatorSessions } from '../../auth/operators.ts'
import { isPassword } from '../../auth/passwords.ts'
import { Problem } from '../../errors.ts'
import { tokenOf } from '../../plugins/auth.ts'
import { answerOperator, OperatorTokenAnswer, refreshTokenExample } from './answers.ts'

// What an operator sends

const Credentials = Type.Object({ email: Email, password: Password }, { additionalProperties: false })

const Refresh = Type.Object(
  { refresh_token: Type.String({ minLength: 1, maxLength: 512, examples: [refreshTokenExample] }) },
  { additionalProperties: false },
)

const Logout = Type.Object(
  { everywhere: Type.Optional(Type.Boolean({ description: 'End every session of this operator.', examples: [true] })) },
  { additionalProperties: false },
)

// What signing in is

/** Whether the address is unknown or the password wrong, the same work is done and the same is answered. */
async function login(
  sessions: OperatorSessions,
  { email: given, password }: Static<typeof Credentials>,
  request: FastifyRequest,
): Promise<OperatorSession> {
  const email = given.toLowerCase()
  const { operator_id, password_hash } = await sessions.findCredential(email)
  const genuine = await isPassword(password, password_hash)
  if (!genuine || operator_id === null) {
    await sessions.logRefusal(operator_id, email, request)
    throw new Problem('invalid_credentials')
  }
  return sessions.start(operator_id, request)
}

// What the world may ask of us

type Options = { sessions: OperatorSessions; tokens: OperatorTokens }

export const operatorSignIn: FastifyPluginAsyncTypebox<Options> = async (app, { sessions, tokens }) => {
  app.post(
    '/login',
    {
      schema: {
        operationId: 'loginOperator',
        summary: 'Sign in as an operator',
        description: 'Operators are no members of tenants: their tokens open operators’ routes, and no others do.',
        security: [],
        body: Credentials,
        response: { 200: OperatorTokenAnswer },
      },
      config: { limit: 'sensitive', problems: ['invalid_credentials', 'overloaded'] },
    },
    async (request, reply) => answerOperator(tokens, reply, await login(sessions, request.body, request)),
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
