import type { FastifyReply } from 'fastify'

/**
 * The text of an answer, by the schema of its route and status, as Fastify would make it once the handler has ended. Made
 * inside the transaction, an answer that does not fit its schema rolls it back. Streams, texts and nothing stay as they are.
 */
export const serialised = (reply: FastifyReply, answer: unknown): unknown => {
  const type = String(reply.getHeader('content-type') ?? JSON_TYPE)
  if (!isPlain(answer) || answer === reply || !type.includes('json')) return answer
  reply.type(type)
  return reply.serialize(answer)
}

const JSON_TYPE = 'application/json; charset=utf-8'

const isPlain = (answer: unknown): answer is object =>
  typeof answer === 'object' && answer !== null && !Buffer.isBuffer(answer) && !('pipe' in answer)
