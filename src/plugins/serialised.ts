import type { FastifyReply } from 'fastify'

/**
 * The text of an answer, by the schema of its route and status, as Fastify would make it once the handler has ended. Made
 * inside the transaction, an answer that does not fit its schema rolls it back. Streams, texts and nothing stay as they are.
 */
export const serialised = (reply: FastifyReply, answer: unknown): unknown => {
  if (!isPlain(answer) || answer === reply || reply.hasHeader('content-type')) return answer
  reply.type('application/json; charset=utf-8')
  return reply.serialize(answer)
}

const isPlain = (answer: unknown): answer is object =>
  typeof answer === 'object' && answer !== null && !Buffer.isBuffer(answer) && !('pipe' in answer)
