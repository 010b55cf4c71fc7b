import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { Attempts } from '../../auth/attempts.ts'
import type { Own } from '../../auth/own.ts'
import type { SecondFactors } from '../../auth/second-factors.ts'
import type { Sessions } from '../../auth/sessions.ts'
import { isDatabaseError } from '../../errors.ts'
import { expectedVersions, stale } from '../../plugins/concurrency.ts'
import { Code, Password } from './answers.ts'
import { confirmPassword, failed, refused } from './refusals.ts'

// What is sent

const Farewell = Type.Object(
  {
    password: Password,
    code: Type.Optional({
      ...Code,
      description: 'Needed when you have a second factor: a code of it, or a recovery code.',
    }),
  },
  { additionalProperties: false },
)

// What it is

async function erase(
  { own, sessions, secondFactors }: Options,
  { password, code }: Static<typeof Farewell>,
  request: FastifyRequest,
): Promise<void> {
  const versions = expectedVersions(request)
  const credential = await confirmPassword({ own, sessions }, { path: '/password', password }, request)
  const { user_id: userId, email, name } = credential
  const shown =
    code === undefined ? undefined : await secondFactors.readCode({ userId, email, name }, code, request.log)
  try {
    const erased = await own.erase(request.claims.secret, credential, versions, shown, request)
    if (!erased) throw failed('/password', 'is not your password')
  } catch (error) {
    if (!isDatabaseError(error)) throw error
    const current = error.code === 'BH028' && (await sessions.findProfile(request.claims.secret))
    if (current) stale(current)
    if (error.code === 'BH026') throw refused('/code', 'is needed')
    if (error.code !== 'BH027') throw error
    await sessions.logRefusal(request, 'mfa_refused', { userId })
    throw failed('/code', 'is not a good code')
  }
}

// What the world may ask of us: registered where an access token is needed

type Options = { sessions: Sessions; own: Own; secondFactors: SecondFactors; attempts: Attempts }

export const erasure: FastifyPluginAsyncTypebox<Options> = async (app, parts) => {
  app.delete(
    '/profile',
    {
      schema: {
        operationId: 'eraseProfile',
        summary: 'Erase yourself',
        description:
          'With your password, and a code when you have a second factor. Your account, sessions and memberships are gone, and what the audit logs of your tenants say about you reads [erased]; what you did stays there, under an id that nobody has any more. The last owner of a tenant is refused, and who is in what is on legal hold. Your address can be registered anew.',
        body: Farewell,
        response: { 204: Type.Null() },
      },
      config: {
        limit: 'sensitive',
        conditional: true,
        problems: ['unprocessable', 'last_owner', 'legal_hold', 'too_many_failures'],
      },
    },
    async (request, reply) => {
      await parts.attempts.inSession(request, () => erase(parts, request.body, request))
      if (request.claims.inCookie) app.refreshCookie.clear(reply)
      reply.code(204)
      return null
    },
  )
}
