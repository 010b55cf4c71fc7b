import fp from 'fastify-plugin'
import { Problem } from '../errors.ts'

type Options = { required: boolean; baseDomain: string | undefined }

const HOST = /^(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)\.?(:\d{1,5})?$/

/**
 * Nothing that carries a token crosses the network in the clear: a plain GET or HEAD is sent to the same place over
 * https, anything else is refused, since its body has been read by others already. What the connection was is what a
 * trusted proxy says it was. Probes are exempt; they come from inside.
 */
export const https = fp<Options>(
  async (app, { required, baseDomain }) => {
    if (!required) return

    app.addHook('onRequest', (request, reply, done) => {
      if (request.protocol === 'https' || request.routeOptions.config.probe) return done()
      if (request.method !== 'GET' && request.method !== 'HEAD') return done(new Problem('https_required'))
      if (!request.url.startsWith('/')) return done(new Problem('malformed'))

      const name = hostnameOf(request.host)
      const ours = name !== undefined && (baseDomain === undefined || isWithin(name, baseDomain))
      if (!ours) return done(new Problem('malformed', { detail: 'The Host header names no host of this service.' }))
      void reply.redirect(`https://${name}${request.url}`, 308)
    })
  },
  { name: 'https', dependencies: ['errors'] },
)

/** Without the port: that of http is not that of https. */
const hostnameOf = (host: string): string | undefined => {
  const name = host.toLowerCase()
  return HOST.test(name) ? name.replace(/:\d+$/, '') : undefined
}

/** Ours alone: a redirect to wherever the Host header says would send people elsewhere under our name. */
const isWithin = (name: string, baseDomain: string): boolean => {
  const plain = name.replace(/\.$/, '')
  return plain === baseDomain || plain.endsWith(`.${baseDomain}`)
}
