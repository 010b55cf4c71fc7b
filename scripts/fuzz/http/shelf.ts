/** What a client has seen in answers, to be asked for later. */
import type { Answer } from './wire.ts'

export type Shelf = {
  /** By the collection they were found in, its path without a trailing slash. */
  readonly ids: Map<string, string[]>
  /** By the list that gave them, with its query string. */
  readonly cursors: { path: string; query: string; cursor: string }[]
  readonly etags: string[]
  readonly times: string[]
  readonly refreshTokens: string[]
}

export const makeShelf = (): Shelf => ({ ids: new Map(), cursors: [], etags: [], times: [], refreshTokens: [] })

/** Keeps what is in an answer to `target`. */
export const learn = (shelf: Shelf, target: string, { status, headers, body }: Answer): void => {
  const [path = '', query = ''] = target.split('?')
  if (headers.etag !== undefined) add(shelf.etags, headers.etag)
  if (status >= 300 || !headers['content-type']?.includes('json')) return
  const found = parse(body)
  if (!isObject(found)) return

  const rows = Array.isArray(found.data) ? found.data.filter(isObject) : [found]
  // the row of /projects/{id} belongs to /projects
  const collection = Array.isArray(found.data) || !UUID.test(last(path)) ? path : path.slice(0, path.lastIndexOf('/'))
  for (const row of rows) {
    if (typeof row.id === 'string') {
      const ids = shelf.ids.get(collection) ?? []
      shelf.ids.set(collection, ids)
      add(ids, row.id)
    }
    for (const value of Object.values(row)) if (typeof value === 'string' && TIME.test(value)) add(shelf.times, value)
  }
  if (typeof found.next_cursor === 'string') shelf.cursors.push({ path, query, cursor: found.next_cursor })
  if (typeof found.refresh_token === 'string') shelf.refreshTokens.push(found.refresh_token)
}

/**
 * The ids that belong where `path` has a parameter, or a body a field: of the collection in front of the parameter, of the
 * one that is called like the field (`project_id`), else any.
 */
export const idsFor = (shelf: Shelf, { before, field }: { before?: string; field: string }): readonly string[] => {
  const collections = [...shelf.ids]
  const own = before === undefined ? undefined : shelf.ids.get(before)
  if (own) return own
  const noun = field.replace(/_id$/, '')
  const named = collections.filter(([path]) => last(path).startsWith(noun)).flatMap(([, ids]) => ids)
  return named.length > 0 ? named : collections.flatMap(([, ids]) => ids)
}

const MOST = 500

const add = (list: string[], item: string): void => {
  if (list.length < MOST && !list.includes(item)) list.push(item)
}

const UUID = /^[0-9a-f-]{36}$/
const TIME = /^\d{4}-\d\d-\d\dT[\d:.]+Z$/
const last = (path: string): string => path.slice(path.lastIndexOf('/') + 1)

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
