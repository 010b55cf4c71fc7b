import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { Attempts } from '../../auth/attempts.ts'
import type { Account } from '../../auth/own.ts'
import type { SecondFactors, ShownCode } from '../../auth/second-factors.ts'
import type { LogsRefusals } from '../../auth/security-log.ts'
import { isDatabaseError, Problem } from '../../errors.ts'
import { Nullable, Timestamp } from '../../lib/schemas.ts'
import type { Addressee } from '../../mail/notices.ts'
import { Code, Password } from './answers.ts'
import { type Audience, people } from './audience.ts'
import { confirmPassword, failed } from './refusals.ts'

// What is sent and answered

const Said = Type.Object({ password: Password }, { additionalProperties: false })
const Shown = Type.Object({ code: Code }, { additionalProperties: false })
const SaidAndShown = Type.Object({ password: Password, code: Code }, { additionalProperties: false })

const SecondFactor = Type.Object({
  totp: Type.Boolean({ description: 'Whether a code is asked for when you sign in.' }),
  enabled_at: Nullable({ ...Timestamp, description: 'Since when.' }),
  recovery_codes: Type.Integer({ description: 'How many you have left.', examples: [10] }),
})

const Enrollment = Type.Object({
  secret: Type.String({ description: 'Base32 (RFC 4648), to type.', examples: ['JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP'] }),
  uri: Type.String({
    description: 'The same as an authenticator reads it, from a QR code or a link.',
    examples: ['otpauth://totp/Bulkhead:ada%40example.com?issuer=Bulkhead&secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP'],
  }),
})

const RecoveryCodes = Type.Object({
  recovery_codes: Type.Array(Type.String({ examples: ['7Z0QK-1M4XV-9TB2C-HJ5RD-W8NEG'] }), {
    description: 'Each signs you in once in the place of a code. They are shown this once.',
  }),
})

// What it is

async function enroll({ own, sessions, secondFactors }: Options, password: string, request: FastifyRequest) {
  const { user_id: userId, email } = await confirmPassword({ own, sessions }, { path: '/password', password }, request)
  const enrollment = await secondFactors.enroll({ secret: request.claims.secret, userId, email }, request)
  if (!enrollment) throw new Problem('mfa_enabled')
  return enrollment
}

async function confirm({ sessions, secondFactors }: Options, code: string, request: FastifyRequest): Promise<string[]> {
  const { sub: userId, secret } = request.claims
  const codes = await secondFactors.confirm(secret, code, request)
  if (codes === 'none') throw new Problem('mfa_not_enabled')
  if (codes !== 'wrong') return codes
  await sessions.logRefusal(request, 'mfa_refused', { userId })
  throw failed('/code', 'is not a good code')
}

/** Runs `work` with the code that was shown, after the password was said; false from it is that there is no second factor. */
async function changing<T>(
  { own, sessions, secondFactors }: Options,
  { password, code }: Static<typeof SaidAndShown>,
  request: FastifyRequest,
  work: (shown: ShownCode, person: Addressee) => Promise<T | false | undefined>,
): Promise<T> {
  const said = { path: '/password', password }
  const { user_id: userId, email, name } = await confirmPassword({ own, sessions }, said, request)
  const person = { userId, email, name }
  const shown = await secondFactors.readCode(person, code, request.log)
  try {
    const done = await work(shown, person)
    if (done === false || done === undefined) throw new Problem('mfa_not_enabled')
    return done
  } catch (error) {
    if (!isDatabaseError(error) || error.code !== 'BH027') throw error
    await sessions.logRefusal(request, 'mfa_refused', { userId })
    throw failed('/code', 'is not a good code')
  }
}

// What the world may ask of us: registered where an access token is needed

type Options = {
  sessions: LogsRefusals
  own: Pick<Account, 'findCredential'>
  secondFactors: SecondFactors
  attempts: Attempts
  audience?: Audience
}

export const mfa: FastifyPluginAsyncTypebox<Options> = async (app, parts) => {
  const { secondFactors, attempts } = parts
  const { security, operation } = parts.audience ?? people

  app.get(
    '/mfa',
    {
      schema: {
        operationId: operation('get', 'SecondFactor'),
        security,
        summary: 'Get how it stands with your second factor',
        description: 'Whether codes are asked for, and how many recovery codes are left.',
        response: { 200: SecondFactor },
      },
    },
    async ({ claims }) => {
      const { enabled_at, recovery_codes } = await secondFactors.find(claims.secret)
      return { totp: enabled_at !== null, enabled_at, recovery_codes }
    },
  )

  app.post(
    '/mfa/totp/enroll',
    {
      schema: {
        operationId: operation('enroll', 'Totp'),
        security,
        summary: 'Begin to use an authenticator',
        description:
          'Answers a new secret (TOTP, RFC 6238: six digits, 30 seconds, SHA-1). It is not asked for before it is confirmed; enrolling again replaces it until then.',
        body: Said,
        response: { 200: Enrollment },
      },
      config: { limit: 'sensitive', problems: ['mfa_enabled', 'unprocessable', 'too_many_failures'] },
    },
    async (request, reply) => {
      const enrollment = await attempts.inSession(request, () => enroll(parts, request.body.password, request))
      reply.header('cache-control', 'no-store')
      return enrollment
    },
  )

  app.post(
    '/mfa/totp/confirm',
    {
      schema: {
        operationId: operation('confirm', 'Totp'),
        security,
        summary: 'Have codes asked for from now on',
        description:
          'With a code of the secret that was enrolled. The answer has your recovery codes, this once. Every other session of yours ends; this one goes on.',
        body: Shown,
        response: { 200: RecoveryCodes },
      },
      config: { limit: 'sensitive', problems: ['mfa_not_enabled', 'unprocessable', 'too_many_failures'] },
    },
    async (request, reply) => {
      const recovery_codes = await attempts.inSession(request, () => confirm(parts, request.body.code, request))
      reply.header('cache-control', 'no-store')
      return { recovery_codes }
    },
  )

  app.delete(
    '/mfa/totp',
    {
      schema: {
        operationId: operation('remove', 'Totp'),
        security,
        summary: 'Have no codes asked for any more',
        description:
          'With your password and a code. Your recovery codes are gone too, and every other session of yours ends.',
        body: SaidAndShown,
        response: { 204: Type.Null() },
      },
      config: { limit: 'sensitive', problems: ['mfa_not_enabled', 'unprocessable', 'too_many_failures'] },
    },
    async (request, reply) => {
      const { claims, body } = request
      await attempts.inSession(request, () =>
        changing(parts, body, request, (shown, person) => secondFactors.remove(claims.secret, shown, person, request)),
      )
      reply.code(204)
      return null
    },
  )

  app.post(
    '/mfa/recovery-codes',
    {
      schema: {
        operationId: operation('replace', 'RecoveryCodes'),
        security,
        summary: 'Get new recovery codes',
        description:
          'With your password and a code. The former ones are good no more; the new ones are shown this once.',
        body: SaidAndShown,
        response: { 200: RecoveryCodes },
      },
      config: { limit: 'sensitive', problems: ['mfa_not_enabled', 'unprocessable', 'too_many_failures'] },
    },
    async (request, reply) => {
      const { claims, body } = request
      const recovery_codes = await attempts.inSession(request, () =>
        changing(parts, body, request, (shown, person) =>
          secondFactors.replaceRecoveryCodes(claims.secret, shown, person, request),
        ),
      )
      reply.header('cache-control', 'no-store')
      return { recovery_codes }
    },
  )
}
