import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Profile, Sessions } from '../../auth/sessions.ts'
import { Problem } from '../../errors.ts'
import { Timestamp, Uuid, Version } from '../../lib/schemas.ts'
import { expectedVersions, stale, tagVersion } from '../../plugins/concurrency.ts'
import { Email, Name } from './answers.ts'

// What a profile looks like

const ProfileAnswer = Type.Object(
  {
    id: Uuid,
    email: Email,
    email_verified: Type.Boolean({ description: 'Whether it was proved that they read what is sent there.' }),
    name: Name,
    created_at: Timestamp,
    updated_at: Timestamp,
    version: Version,
  },
  { $id: 'Profile' },
)

/** A JSON merge patch (RFC 7396). */
const ProfilePatch = Type.Object({ name: Type.Optional(Name) }, { additionalProperties: false })

const present = ({ user_id, email, email_verified, name, created_at, updated_at, version }: Profile) => ({
  id: user_id,
  email,
  email_verified,
  name,
  created_at,
  updated_at,
  version,
})

/** With its ETag; empty, with 304, for who has it already, which is not for the schema to describe. */
const answer = (request: FastifyRequest, reply: FastifyReply, profile: Profile) =>
  tagVersion(request, reply, present(profile)) as ReturnType<typeof present>

// What the world may ask of us: registered where an access token is needed

export const profile: FastifyPluginAsyncTypebox<{ sessions: Sessions }> = async (app, { sessions }) => {
  const find = async ({ claims }: FastifyRequest): Promise<Profile> => {
    const found = await sessions.findProfile(claims.secret)
    if (!found) throw new Problem('unauthenticated')
    return found
  }

  app.get(
    '/profile',
    {
      schema: {
        operationId: 'getProfile',
        summary: 'Get your profile',
        description: 'Who you are, in whatever tenant.',
        response: { 200: ProfileAnswer },
      },
      config: { tagged: true },
    },
    async (request, reply) => answer(request, reply, await find(request)),
  )

  app.patch(
    '/profile',
    {
      schema: {
        operationId: 'changeProfile',
        summary: 'Change your profile',
        description: 'For the address, see `POST /auth/profile/email`.',
        body: ProfilePatch,
        response: { 200: ProfileAnswer },
      },
      config: { tagged: true, conditional: true },
    },
    async (request, reply) => {
      const { claims, body } = request
      const versions = expectedVersions(request)
      const current = await find(request)
      if (versions && !versions.includes(current.version)) stale(current)

      if (body.name !== undefined) {
        const change = { name: body.name, version: versions ? current.version : null }
        const changed = await sessions.changeName(claims.secret, change, request)
        if (!changed) stale(await find(request))
      }
      return answer(request, reply, await find(request))
    },
  )
}
