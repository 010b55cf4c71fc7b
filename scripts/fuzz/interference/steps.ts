/** One request of somebody who uses the API and does not always do it right. */
import type { Operation, Parameter, Schema } from '../http/operations.ts'
import { idsFor, type Shelf } from '../http/shelf.ts'
import { likelyValue, oddTexts, oddValues, validValue, type Wishes } from '../http/values.ts'
import type { Request } from '../http/wire.ts'
import type { Random } from '../random.ts'

/** Texts that everybody uses: what acme names so, globex may have named so too. */
const names = Array.from({ length: 120 }, (_, n) => `name ${n}`)
const keys = Array.from({ length: 12 }, (_, n) => `key-${n}`)

/** Where a request is made: everything that is not the same in two worlds comes from here. */
export type Place = {
  operations: readonly Operation[]
  /** What the caller has seen, here. */
  shelf: Shelf
  tenantId: string
  /** Of the caller's session. */
  token: string
  /** The last request, for who sends it twice. */
  last: Request | undefined
  /** The address it comes from, as a proxy in front says. */
  address: string
}

/** The same choices in every place in which as much has been seen. */
export const makeStep = (random: Random, requestId: string, place: Place): Request => {
  if (place.last && random.chance(0.08)) return place.last
  const operation = random.weighted(place.operations.map((one) => [weightOf(one), one] as const))
  const path = operation.path.replace(/\{(\w+)\}/g, (_part, field: string, at: number) =>
    pathValue(random, place, operation, field, operation.path.slice(0, at - 1)),
  )
  const query = queryOf(random, place, operation, path)
  const body = operation.body && bodyOf(random, place, operation.body)
  return {
    method: operation.method === 'GET' && random.chance(0.04) ? 'HEAD' : operation.method,
    target: query === '' ? path : `${path}?${query}`,
    headers: [
      ['Host', 'localhost'],
      ['X-Request-ID', requestId],
      ['X-Forwarded-For', place.address],
      ...(operation.open && random.chance(0.5) ? [] : [['Authorization', `Bearer ${place.token}`] as const]),
      ...(operation.body ? [['Content-Type', 'application/json'] as const] : []),
      ...headersOf(random, place, operation),
    ],
    body,
  }
}

/** Tenants' resources most often; passwords cost too much to be tried more than now and then. */
const weightOf = ({ method, permission, body, open, path }: Operation): number => {
  if (body?.properties?.password) return 0.03
  if (permission) return method === 'GET' ? (path.includes('{') ? 6 : 10) : method === 'POST' ? 14 : 7
  if (path.endsWith('/logout')) return 0.2
  return open ? 0.7 : 2
}

const pathValue = (random: Random, { shelf }: Place, operation: Operation, field: string, before: string): string => {
  const schema = operation.parameters.find((one) => one.in === 'path' && one.name === field)?.schema ?? {}
  if (schema.format !== 'uuid') return encodeURIComponent(String(likelyValue(schema, random)))
  const known = idsFor(shelf, { before, field })
  return random.weighted([
    [12, () => (known.length > 0 ? random.pick(known) : random.uuid())],
    [1, () => random.uuid()],
    [1, () => encodeURIComponent(random.pick(oddTexts.slice(0, -1)).toWellFormed())],
  ])()
}

const wishesOf = (random: Random, { shelf, token }: Place): Wishes => ({
  text: (field) => {
    if (field === 'refresh_token') return shelf.refreshTokens.length > 0 ? random.pick(shelf.refreshTokens) : undefined
    if (field === 'token') return token
    return random.chance(0.8) ? random.pick(names) : undefined
  },
  id: (field) => {
    const known = idsFor(shelf, { field })
    return known.length > 0 && random.chance(0.9) ? random.pick(known) : undefined
  },
  time: () => (shelf.times.length > 0 && random.chance(0.7) ? random.pick(shelf.times) : undefined),
  email: () => `${random.pick(['owner', 'member', 'nobody'])}@acme.test`,
})

const queryOf = (random: Random, place: Place, { parameters }: Operation, path: string): string => {
  const inQuery = parameters.filter((one) => one.in === 'query')
  const pages = place.shelf.cursors.filter((one) => one.path === path)
  if (pages.length > 0 && inQuery.some(({ name }) => name === 'cursor') && random.chance(0.35)) {
    const { query, cursor } = random.pick(pages)
    const rest = query.split('&').filter((part) => part !== '' && !part.startsWith('cursor='))
    // the next page of the same list most often, of another now and then
    return [...(random.chance(0.85) ? rest : rest.slice(1)), `cursor=${cursor}`].join('&')
  }
  const given = inQuery.filter(({ name, required }) => required || (name !== 'cursor' && random.chance(0.25)))
  const odd = random.chance(0.03) ? [[random.word(4), random.word(4)] as const] : []
  return [...given.map((one) => [one.name, queryValue(random, place, one)] as const), ...odd]
    .map(([name, value]) => `${name}=${encodeURIComponent(value.toWellFormed())}`)
    .join('&')
}

const queryValue = (random: Random, place: Place, { name, schema }: Parameter): string =>
  random.chance(0.06)
    ? random.pick(oddTexts.slice(0, -1))
    : String(
        name === 'limit'
          ? random.pick([1, 2, 3, 5, 8, 20, 20, 100])
          : likelyValue(schema, random, wishesOf(random, place), name),
      )

const bodyOf = (random: Random, place: Place, schema: Schema): string => {
  const value = validValue(schema, random, wishesOf(random, place))
  if (random.chance(0.85) || typeof value !== 'object' || value === null) return JSON.stringify(value)
  const fields = [...Object.keys(schema.properties ?? {}), 'tenant_id', 'version']
  return random.weighted([
    [6, () => JSON.stringify({ ...value, [random.pick(fields)]: random.pick(oddValues) })],
    [1, () => '{'],
    [1, () => '[]'],
    [1, () => ''],
  ])()
}

const headersOf = (random: Random, place: Place, { method, permission, parameters }: Operation): [string, string][] => {
  const { shelf, tenantId } = place
  const takes = (name: string) => parameters.some((one) => one.in === 'header' && one.name === name)
  const tag = () => random.pick(['*', '"1"', '"2"', '"99"', 'W/"1"', ...shelf.etags.slice(-3)])
  const headers: [string, string][] = []
  if (takes('Idempotency-Key') && random.chance(0.4)) headers.push(['Idempotency-Key', random.pick(keys)])
  if (takes('If-Match') && random.chance(0.3)) headers.push(['If-Match', tag()])
  if (takes('If-None-Match') && random.chance(0.3)) headers.push(['If-None-Match', tag()])
  if (permission && random.chance(0.08))
    headers.push(['X-Tenant-ID', random.pick([tenantId, tenantId, random.uuid(), 'acme'])])
  if (method === 'GET' && random.chance(0.02)) headers.push(['Accept', 'text/html'])
  return headers
}
