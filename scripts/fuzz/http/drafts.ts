/**
 * Requests by acme that try to cross: for every operation of the document one that is as it should be, and every place in
 * it where something else can stand: globex's ids, texts, cursors, keys, and whatever nobody expects.
 *
 * What is globex's stands in a draft as a placeholder, so that the same request can be sent with what is globex's and
 * with what is nobody's; texts of one's own are placeholders too, made anew each time, since many must be unique.
 */
import type { Random } from '../random.ts'
import type { Operation, Parameter, Schema } from './operations.ts'
import { idsFor, type Shelf } from './shelf.ts'
import { likelyValue, oddTexts, oddValues, takesAnyText, validValue, type Wishes } from './values.ts'
import type { Request } from './wire.ts'

/** `text` goes into a body, once; `word` is only asked for. */
export type ForeignKind = 'id' | 'tenant' | 'text' | 'word' | 'key' | 'slug' | 'cursor'

/** How acme presents itself. */
export type Actor =
  | 'owner'
  | 'admin'
  | 'manager'
  | 'member'
  | 'owner without a tenant'
  | 'member without a tenant'
  | 'key'
  | 'nobody'
  | 'forged for globex'
  | 'unsigned for globex'

export const actors: readonly Actor[] = [
  ...(['owner', 'admin', 'manager', 'member'] as const),
  ...([
    'owner without a tenant',
    'member without a tenant',
    'key',
    'nobody',
    'forged for globex',
    'unsigned for globex',
  ] as const),
]

/** Something of globex's, and where it is put: a resource and the name of a field, a parameter or a header. */
export type Foreign = { kind: ForeignKind; where: string }

export type Draft = {
  operation: Operation
  method: string
  /** Below the root, without its query. */
  path: string
  query: [name: string, value: string][]
  headers: [name: string, value: string][]
  /** JSON, or the text itself when it is one. */
  body: unknown
  actor: Actor
  /** What its placeholders stand for, by number. */
  foreign: readonly Foreign[]
  /** The documented parameters in it that are not as they should be. */
  touched: string[]
  /** It names something of acme's own in its path. */
  ownPath: boolean
}

/** What the drafts are made with. */
export type Means = {
  /** What acme has seen. */
  own: Shelf
  credentials: Credentials
  tenantId: string
  random: Random
}

export type Credentials = { email: string; password: string; accessToken: string; refreshToken: string }

const foreignMark = (at: number): string => `zzforeign${at}zz`
const freshMark = (random: Random): string => `zzfresh${random.word(6)}zz`

// As it should be

export const goodDraft = (operation: Operation, means: Means): Draft => {
  const { own, random } = means
  const path = operation.path.replace(/\{(\w+)\}/g, (_part, field: string, at: number) => {
    const known = idsFor(own, { before: operation.path.slice(0, at - 1), field })
    const schema = parameterOf(operation, 'path', field)?.schema ?? {}
    if (schema.format !== 'uuid') return encodeURIComponent(String(likelyValue(schema, random)))
    return known.length > 0 ? random.pick(known) : random.uuid()
  })
  const required = operation.parameters.filter((one) => one.in === 'query' && one.required)
  return {
    operation,
    method: operation.method,
    path,
    query: required.map(({ name, schema }) => [name, String(likelyValue(schema, random, wishesOf(means), name))]),
    headers: [],
    body: operation.body && validValue(operation.body, random, wishesOf(means)),
    actor: operation.open && random.chance(0.7) ? 'nobody' : 'owner',
    foreign: [],
    touched: [],
    ownPath: operation.path.includes('{'),
  }
}

const parameterOf = ({ parameters }: Operation, where: Parameter['in'], name: string): Parameter | undefined =>
  parameters.find((one) => one.in === where && one.name === name)

const wishesOf = ({ own, credentials, random }: Means): Wishes => ({
  text: (field) =>
    ({ password: credentials.password, token: credentials.accessToken, refresh_token: credentials.refreshToken })[
      field
    ] ?? freshMark(random),
  id: (field) => {
    const known = idsFor(own, { field })
    return known.length > 0 ? random.pick(known) : undefined
  },
  email: () => (random.chance(0.5) ? credentials.email : `${freshMark(random)}@example.test`),
})

// Where something else can stand

export type Site = {
  place: 'path' | 'query' | 'header' | 'field' | 'body' | 'actor' | 'method' | 'target'
  name: string
  schema: Schema
  /** Whether the document names it. */
  documented: boolean
}

export const sitesOf = (operation: Operation): Site[] => {
  const documented = operation.parameters.map(
    ({ in: place, name, schema }): Site => ({ place, name, schema, documented: true }),
  )
  const fields = Object.entries(operation.body?.properties ?? {}).map(
    ([name, schema]): Site => ({ place: 'field', name, schema, documented: true }),
  )
  const known = new Set([...documented, ...fields].map(({ place, name }) => `${place} ${name.toLowerCase()}`))
  const beside = (place: Site['place'], names: readonly string[]): Site[] =>
    names
      .filter((name) => !known.has(`${place} ${name.toLowerCase()}`))
      .map((name) => ({ place, name, schema: { type: 'string' }, documented: false }))
  return [
    ...documented,
    ...fields,
    ...beside('header', asideHeaders),
    ...beside('query', ['tenant_id', 'filter', 'id']),
    ...(operation.body ? beside('field', ['tenant_id', 'id', 'version', 'actor_id']) : []),
    ...(['body', 'actor', 'method', 'target'] as const).flatMap((place) => beside(place, [place])),
  ]
}

/** What a proxy, a framework or a habit might listen to. */
const asideHeaders = [
  'Host',
  'X-Tenant-ID',
  'X-Forwarded-Host',
  'X-Forwarded-For',
  'Forwarded',
  'X-Original-URL',
  'X-Rewrite-URL',
  'X-HTTP-Method-Override',
  'Idempotency-Key',
  'If-Match',
  'If-None-Match',
  'X-Request-ID',
  'Accept',
  'Content-Type',
  'Cookie',
  'Range',
  'Origin',
  'Traceparent',
]

/** A way to fill a site; each returns the draft as it then is. */
type Change = (draft: Draft, site: Site, means: Means) => Draft

const withForeign =
  (kind: ForeignKind, dress: (mark: string) => string = (mark) => mark): Change =>
  (draft, site, means) => {
    const mark = foreignMark(draft.foreign.length)
    const where = `${draft.operation.path.split('/').slice(0, 4).join('/')} ${site.name}`
    return put({ ...draft, foreign: [...draft.foreign, { kind, where }] }, site, dress(mark), means)
  }

const withValue =
  (value: unknown | ((means: Means) => unknown)): Change =>
  (draft, site, means) =>
    put(draft, site, typeof value === 'function' ? value(means) : value, means)

const nothing: Change = (draft, site) => remove(draft, site)

/** Everything that may stand at a site: what is globex's first. */
export const changesFor = (site: Site): readonly Change[] => {
  const { place, name, schema } = site
  const odd = (place === 'field' ? oddValues : oddTexts).map((value) => withValue(value))
  const anId = withValue(({ random }: Means) => random.uuid())
  const lower = name.toLowerCase()
  if (place === 'actor') return actors.map((actor) => (draft) => ({ ...draft, actor }))
  if (place === 'method') {
    return ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'QUERY', 'PROPFIND', 'get'].map(
      (method) => (draft) => ({ ...draft, method }),
    )
  }
  if (place === 'target') return targets
  if (place === 'body') return bodies
  if (lower === 'host' || lower === 'x-forwarded-host') {
    const hosts = (mark: string) => [mark, `${mark}.`, mark.toUpperCase(), `${mark}:80`, `x.${mark}`]
    return [
      ...[0, 1, 2, 3, 4].map((at) => withForeign('slug', (mark) => hosts(`${mark}.example.test`)[at] ?? mark)),
      withValue('acme.example.test'),
      withValue('127.0.0.1'),
      withValue('[::1]'),
    ]
  }
  if (lower === 'x-tenant-id') {
    return [
      withForeign('tenant'),
      withForeign('tenant'),
      withForeign('tenant', (mark) => `${mark},${mark}`),
      withForeign('slug'),
      withForeign('id'),
      withValue(({ tenantId }: Means) => tenantId),
      anId,
      ...odd,
    ]
  }
  if (lower === 'forwarded') return [withForeign('slug', (mark) => `host=${mark}.example.test;for=192.0.2.1`), ...odd]
  if (lower === 'x-original-url' || lower === 'x-rewrite-url')
    return [withForeign('id', (mark) => `/api/v1/projects/${mark}`), withValue('/api/v1/audit/logs')]
  if (lower === 'x-http-method-override') return [withValue('DELETE'), withValue('PUT')]
  if (lower === 'idempotency-key')
    return [
      withForeign('key'),
      withForeign('key'),
      withForeign('word'),
      withValue(({ random }: Means) => freshMark(random)),
      ...odd,
    ]
  if (lower === 'if-match' || lower === 'if-none-match')
    return [
      ...['*', '"1"', '"2"', 'W/"1"', '"1", "2", "3"', '1', '"999999999"'].map((tag) => withValue(tag)),
      withForeign('id', (mark) => `"${mark}"`),
      ...odd,
    ]
  if (lower === 'cursor') {
    const own = ({ own: shelf, random }: Means) => (shelf.cursors.length > 0 ? random.pick(shelf.cursors).cursor : 'x')
    return [
      withForeign('cursor'),
      withForeign('cursor'),
      withForeign('id'),
      withValue(own),
      withValue((means: Means) => `A${own(means).slice(1)}`),
      ...odd,
    ]
  }
  if (schema.format === 'uuid')
    return [
      withForeign('id'),
      withForeign('id'),
      withForeign('tenant'),
      withForeign('id', (mark) => `{${mark}}`),
      withForeign('id', (mark) => `urn:uuid:${mark}`),
      anId,
      nothing,
      ...odd,
    ]
  if (place === 'field' && /_id$|^id$/.test(name)) return [withForeign('tenant'), withForeign('id'), anId, ...odd]
  const free = schema.type === 'string' && !schema.enum && !schema.format && takesAnyText(schema)
  return [
    // what acme has written down is acme's own from then on
    ...(free && place === 'field' ? [withForeign('text'), withForeign('text')] : []),
    ...(free && place !== 'field' ? [withForeign('word'), withForeign('slug')] : []),
    withValue(({ random }: Means) => validValue(schema, random)),
    withValue(({ random }: Means) => validValue(schema, random)),
    nothing,
    ...odd,
  ]
}

/** Other ways to write where one wants to go. */
const targets: readonly Change[] = [
  ...['/', '//', '/.', '/..', '%2f..', ';tenant=x', '%00', '#', '?', '/%2e%2e/', '.json'].map(
    (end): Change =>
      (draft) => ({ ...draft, path: `${draft.path}${end}` }),
  ),
  (draft) => ({ ...draft, path: draft.path.toUpperCase() }),
  (draft) => ({ ...draft, path: draft.path.replace('/api/v1', '/api//v1') }),
  (draft) => ({ ...draft, path: draft.path.replace('/api/v1', '/api/v1/../v1') }),
  (draft) => ({ ...draft, path: `http://localhost${draft.path}` }),
  (draft) => ({ ...draft, query: [...draft.query, ...draft.query] }),
  (draft) => ({ ...draft, query: [...draft.query, ['__proto__[x]', '1']] }),
]

const bodies: readonly Change[] = [
  ...[
    '',
    '{',
    '[]',
    'null',
    '""',
    '0',
    '{}',
    '{"a":1}{"b":2}',
    '\ufeff{}',
    '[[[[[[]]]]]]',
    '{"__proto__":{"x":1}}',
    '{"constructor":{"prototype":{}}}',
  ].map(
    (body): Change =>
      (draft) => ({ ...draft, body }),
  ),
  // a key that comes twice
  (draft) => ({ ...draft, body: JSON.stringify(draft.body ?? {}).replace(/^\{("[^"]+":[^,}]+)/, '{$1,$1') }),
  (draft) => ({ ...draft, body: [draft.body] }),
  (draft) => ({ ...draft, body: undefined }),
]

const put = (draft: Draft, { place, name }: Site, value: unknown, means: Means): Draft => {
  const touched = [...draft.touched, name]
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  switch (place) {
    case 'path': {
      const pattern = draft.operation.path.split('/')
      const parts = draft.path.split('/')
      const at = pattern.indexOf(`{${name}}`)
      if (at < 0 || parts.length !== pattern.length) return { ...draft, touched }
      parts[at] = encodeURIComponent(wellFormed(text))
      return {
        ...draft,
        touched,
        path: parts.join('/'),
        ownPath: pattern.filter((part) => part.startsWith('{')).length > 1,
      }
    }
    case 'query': {
      const others = draft.query.filter(([other]) => other !== name)
      return { ...draft, touched, query: [...(means.random.chance(0.9) ? others : draft.query), [name, text]] }
    }
    case 'header': {
      const others = draft.headers.filter(([other]) => other !== name)
      // a header ends with its line; what it may not hold is dropped here, since it would begin another
      return {
        ...draft,
        touched,
        headers: [...(means.random.chance(0.9) ? others : draft.headers), [name, text.replace(/[^\x20-\x7e]/g, '')]],
      }
    }
    case 'field': {
      const body = typeof draft.body === 'object' && draft.body !== null && !Array.isArray(draft.body) ? draft.body : {}
      return { ...draft, touched, body: { ...body, [name]: value } }
    }
    default:
      return draft
  }
}

const remove = (draft: Draft, { place, name }: Site): Draft => {
  const touched = [...draft.touched, name]
  if (place === 'query') return { ...draft, touched, query: draft.query.filter(([other]) => other !== name) }
  if (place !== 'field' || typeof draft.body !== 'object') return { ...draft, touched }
  const { [name]: _gone, ...body } = draft.body as Record<string, unknown>
  return { ...draft, touched, body }
}

// On the wire

/** What stands in the place of each placeholder. */
export type Filling = {
  foreign: readonly string[]
  fresh: Map<string, string>
  random: Random
  requestId: string
  authorization: string | undefined
}

export const render = (draft: Draft, filling: Filling): Request => {
  const fill = (text: string): string =>
    text
      .replace(/zzforeign(\d+)zz/gi, (_mark, at: string) => filling.foreign[Number(at)] ?? '')
      .replace(/zzfresh\w{6}zz/g, (mark) => {
        const text = filling.fresh.get(mark) ?? `own-${filling.random.word(12)}`
        filling.fresh.set(mark, text)
        return text
      })
  const query = draft.query
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(wellFormed(value))}`)
    .join('&')
  const has = (name: string) => draft.headers.some(([other]) => other.toLowerCase() === name)
  const body =
    draft.body === undefined ? undefined : typeof draft.body === 'string' ? draft.body : JSON.stringify(draft.body)
  return {
    method: draft.method,
    target: fill(`${draft.path}${query === '' ? '' : `?${query}`}`).replace(/[^\x21-\x7e]/g, '') || '/',
    headers: [
      ...(has('host') ? [] : [['Host', 'localhost'] as const]),
      ...(filling.authorization === undefined ? [] : [['Authorization', filling.authorization] as const]),
      ...(has('x-request-id') ? [] : [['X-Request-ID', filling.requestId] as const]),
      ...(body === undefined || has('content-type') ? [] : [['Content-Type', 'application/json'] as const]),
      ...draft.headers.map(([name, value]) => [name, fill(value)] as const),
    ],
    body: body === undefined ? undefined : fill(body),
  }
}

/** Half a surrogate has no percent-encoding. */
const wellFormed = (text: string): string => text.toWellFormed()
