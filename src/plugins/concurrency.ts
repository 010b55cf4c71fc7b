import type { FastifyReply, FastifyRequest } from 'fastify'
import { sql } from 'kysely'
import { Problem } from '../errors.ts'
import { etagOf, matchedVersions, noneMatch } from '../lib/etag.ts'

type Versioned = { version: number }

/**
 * The versions of a row that `If-Match` lets this request change: undefined for any. A row that exists in none of them is
 * refused by `stale`. Throws `invalid` for a header that says neither: to pass it over would be to overwrite.
 */
export const expectedVersions = (request: FastifyRequest): number[] | undefined => {
  const versions = matchedVersions(request.headers['if-match'])
  if (versions !== 'malformed') return versions
  const message = 'must be *, or a list of ETags as they were given, in double quotes'
  throw new Problem('invalid', { errors: [{ path: '/headers/if-match', message }] })
}

/** The same as a condition of the statement, so that reading and changing are one step. */
export const inVersions = (versions: number[] | undefined) =>
  versions ? sql<boolean>`version = any(${versions}::int[])` : sql<boolean>`true`

/** For a change that changes nothing: the row as it is, if its version is an expected one. */
export const unchanged = <R extends Versioned>(existing: R, versions: number[] | undefined): R =>
  !versions || versions.includes(existing.version) ? existing : stale(existing)

/** For an update that found no row of an expected version: the row exists, so it has changed. */
export function stale(existing: Versioned): never {
  throw new Problem('precondition_failed', { headers: { etag: etagOf(existing.version) } })
}

/** Gives a single resource its ETag, and answers 304 without a body when the client has it already. */
export function tagVersion(request: FastifyRequest, reply: FastifyReply, body: unknown): unknown {
  if (!isVersioned(body)) return body
  const etag = etagOf(body.version)
  reply.header('etag', etag)

  const condition = request.headers['if-none-match']
  const reads = request.method === 'GET' || request.method === 'HEAD'
  if (!reads || condition === undefined || noneMatch(condition, etag)) return body
  reply.code(304)
  return ''
}

const isVersioned = (body: unknown): body is Versioned =>
  typeof body === 'object' && body !== null && 'version' in body && typeof body.version === 'number'
