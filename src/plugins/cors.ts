import fastifyCors from '@fastify/cors'
import fp from 'fastify-plugin'

/** Which pages of other origins may call us with their users' credentials. Without origins: none. */
export const cors = fp<{ origins: readonly string[] }>(
  async (app, { origins }) => {
    await app.register(fastifyCors, {
      origin: origins.length === 0 ? false : [...origins],
      credentials: true,
      strictPreflight: false, // an OPTIONS that is no preflight is answered like any other method
      methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
      allowedHeaders: [
        'Authorization',
        'Content-Type',
        'Idempotency-Key',
        'If-Match',
        'If-None-Match',
        'Traceparent',
        'X-Request-ID',
        'X-Tenant-ID',
      ],
      exposedHeaders: [
        'ETag',
        'Idempotency-Replayed',
        'Location',
        'RateLimit',
        'RateLimit-Policy',
        'Retry-After',
        'WWW-Authenticate',
        'X-Request-ID',
      ],
      maxAge: 600,
    })
  },
  { name: 'cors' },
)
