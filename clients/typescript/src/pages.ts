import type { Client } from './client.ts'
import { problemOf } from './problem.ts'
import type { paths } from './schema.ts'

type Page<T = unknown> = { data: T[]; next_cursor: string | null; total?: number }
type AnswerOf<P extends keyof paths> = paths[P] extends {
  get: { responses: { 200: { content: { 'application/json': infer A } } } }
}
  ? A
  : never

/** The paths that answer with a list. */
export type ListPath = {
  [P in keyof paths]: [AnswerOf<P>] extends [never] ? never : AnswerOf<P> extends Page ? P : never
}[keyof paths]

/** What is in the list. */
export type Item<P extends ListPath> = AnswerOf<P> extends Page<infer T> ? T : never

type ParametersOf<P extends ListPath> = paths[P] extends { get: { parameters: infer Q } } ? Q : never
/** The filters and the order of the list, and how many come with a request. */
export type ListQuery<P extends ListPath> = ParametersOf<P> extends { query?: infer Q } ? Q : never

type PathOf<P extends ListPath> = ParametersOf<P> extends { path: infer I } ? { path: I } : { path?: undefined }
type Options<P extends ListPath> = PathOf<P> & { query?: ListQuery<P>; signal?: AbortSignal }
type Rest<P extends ListPath> =
  ParametersOf<P> extends { path: object } ? [options: Options<P>] : [options?: Options<P>]

/**
 * The pages of a list, each asked for when it is needed: `for await (const { data } of pages(client, '/api/v1/tasks'))`.
 * Throws as `take` does.
 */
export async function* pages<P extends ListPath>(
  client: Client,
  path: P,
  ...[options]: Rest<P>
): AsyncGenerator<AnswerOf<P>, void, undefined> {
  const { query, signal, path: ids } = (options ?? {}) as { query?: object; signal?: AbortSignal; path?: object }
  // a union of all lists at once is more than a compiler can follow
  const get = client.GET as unknown as (path: string, init: object) => Promise<Found>
  let cursor: string | null | undefined
  do {
    const { data, error, response } = await get(path, {
      params: { ...(ids && { path: ids }), query: { ...query, ...(cursor && { cursor }) } },
      ...(signal && { signal }),
    })
    if (!data) throw problemOf(error, response)
    yield data as AnswerOf<P>
    cursor = data.next_cursor
  } while (cursor)
}
type Found = { data?: Page; error?: unknown; response: Response }

/** What is in a list, one by one, over all its pages: `for await (const task of each(client, '/api/v1/tasks', …))`. */
export async function* each<P extends ListPath>(
  client: Client,
  path: P,
  ...rest: Rest<P>
): AsyncGenerator<Item<P>, void, undefined> {
  for await (const page of pages(client, path, ...rest)) yield* (page as unknown as Page<Item<P>>).data
}
