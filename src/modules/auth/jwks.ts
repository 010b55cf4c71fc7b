import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { publicKeys } from '../../auth/keys.ts'

const KeySet = Type.Object({
  keys: Type.Array(
    Type.Object({
      kty: Type.Literal('RSA'),
      n: Type.String(),
      e: Type.String({ examples: ['AQAB'] }),
      kid: Type.String({ examples: ['2026-03'] }),
      alg: Type.Literal('RS256'),
      use: Type.Literal('sig'),
    }),
  ),
})

/** The public keys of our access tokens (RFC 7517), at the root of the service. */
export const jwks: FastifyPluginAsyncTypebox<{ keys: Parameters<typeof publicKeys>[0] }> = async (app, { keys }) => {
  const keySet = { keys: publicKeys(keys) }

  app.get(
    '/.well-known/jwks.json',
    {
      schema: {
        operationId: 'getKeySet',
        summary: 'Get the keys that access tokens are verified with',
        description: 'A JWK set (RFC 7517). A new key is here before the first token that it signs.',
        tags: ['auth'],
        security: [],
        response: { 200: KeySet },
      },
    },
    async (_request, reply) => {
      // Short, so that a new key is known before the first token it signs has been around for long
      reply.header('cache-control', 'public, max-age=300')
      return keySet
    },
  )
}
