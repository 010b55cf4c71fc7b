import { type FastifyReply, type FastifyRequest, LogController } from 'fastify'
import fp from 'fastify-plugin'
import type { ProblemCode } from '../errors.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The problem it was answered with. */
    problem: ProblemCode | undefined
  }
}

type Who = (request: FastifyRequest) => Readonly<Record<string, string | undefined>> | undefined

/** One line for each request, when it is over: the pattern of its route, never its target, body or headers. */
export class RequestLog extends LogController {
  readonly #who: Who

  /** `who` tells tenant and actor, as far as they are known. */
  constructor(who: Who) {
    super({ requestIdLogLabel: 'request_id' })
    this.#who = who
  }

  override incomingRequest(): void {}

  override routeNotFound(): void {}

  override requestCompleted(error: Error | null | undefined, request: FastifyRequest, reply: FastifyReply): void {
    const { method, routeOptions, problem, ip, cache } = request
    const line = {
      method,
      route: routeOptions.url ?? null,
      status: reply.statusCode,
      problem,
      ms: Math.round(reply.elapsedTime * 10) / 10,
      address: ip,
      cache,
      ...this.#who(request),
    }
    if (error) request.log.warn({ ...line, err: error }, 'request cut off')
    else request.log.info(line, 'request')
  }
}

/** What the request line needs to know. */
export const observability = fp(
  async (app) => {
    app.decorateRequest('problem', undefined)
  },
  { name: 'observability' },
)
