import type { KeyObject } from 'node:crypto'
import { Problem } from '../errors.ts'
import { openCursor, sealCursor } from '../lib/cursor.ts'

type Query = { limit: number; cursor?: string; count?: 'exact' }

type List<O> = {
  /** Whose it is, and of which route: a cursor opens in no other. */
  name: string
  /** Where a row stands: no two of a list at the same place. */
  placeOf: (row: O) => string
  /** Whether the last place comes first. */
  backwards?: boolean
}

export type ShortList = ReturnType<typeof makeShortList>

/**
 * One page of a list that is short, and read whole by a function of the database. Its pages are those of any other list: the
 * next begins behind the place of the last row, whether or not that one is still there. Throws invalid_cursor. `keys` seal
 * the cursors: the first is used, all are accepted.
 */
export const makeShortList =
  (keys: readonly [KeyObject, ...KeyObject[]]) =>
  <O>(rows: readonly O[], { limit, cursor, count }: Query, { name, placeOf, backwards = false }: List<O>) => {
    const isBehind = (one: string, other: string) => (backwards ? one < other : one > other)
    const placed = rows
      .map((row) => ({ row, place: placeOf(row) }))
      .sort((a, b) => (isBehind(a.place, b.place) ? 1 : -1))
    const position = cursor === undefined ? undefined : openCursor(keys, name, cursor)
    if (cursor !== undefined && !position) throw new Problem('invalid_cursor')
    const rest = position ? placed.filter(({ place }) => isBehind(place, position[0])) : placed
    const page = rest.slice(0, limit)
    const last = rest.length > limit ? page.at(-1) : undefined
    return {
      data: page.map(({ row }) => row),
      next_cursor: last ? sealCursor(keys[0], name, [last.place, '']) : null,
      ...(count && { total: rows.length }),
    }
  }
