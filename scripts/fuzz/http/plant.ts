import type { Random } from '../random.ts'
import type { Operation } from './operations.ts'
import { idsFor, learn, type Shelf } from './shelf.ts'
import { validValue, type Wishes } from './values.ts'
import { type Answer, askPatiently, type Wire } from './wire.ts'

type Planting = {
  wire: Wire
  operations: readonly Operation[]
  /** Of somebody who may do everything. */
  token: string
  random: Random
  shelf: Shelf
  /** How many of each resource. */
  rows: number
  /** The text at a free place of a row's body; its own name most often stands at the first, 0. */
  text?: (row: number, place: number) => string
  idempotencyKeys?: readonly string[]
}

/**
 * Makes rows of everything that a tenant can make through the API, changes and deletes one of each, and reads every list:
 * twice, since what refers to another resource needs that one first.
 */
export const plant = async (planting: Planting): Promise<void> => {
  const { operations, rows } = planting
  const ofTenants = operations.filter(({ permission }) => permission !== undefined)
  for (const pass of [0, 1]) {
    for (const operation of ofTenants.filter(({ method }) => method === 'POST')) {
      const from = pass === 0 ? 0 : Math.floor(rows / 2)
      const to = pass === 0 ? Math.floor(rows / 2) : rows
      for (let row = from; row < to; row++) await ask(planting, operation, row)
    }
  }
  for (const method of ['PATCH', 'PUT', 'DELETE', 'GET']) {
    for (const operation of ofTenants.filter((one) => one.method === method)) await ask(planting, operation, rows)
  }
}

const ask = async (planting: Planting, operation: Operation, row: number): Promise<Answer> => {
  const { wire, token, random, shelf, idempotencyKeys = [] } = planting
  let place = 0
  const wishes: Wishes = {
    id: (field) => pickFrom(idsFor(shelf, { field }), random),
    ...(planting.text && { text: () => planting.text?.(row, place++) }),
    optional: operation.method === 'POST' ? 1 : 0.5,
  }
  const path = operation.path.replace(/\/\{(\w+)\}/g, (_part, field: string, at: number) => {
    const before = operation.path.slice(0, at)
    return `/${pickFrom(idsFor(shelf, { before, field }), random) ?? random.uuid()}`
  })
  // a list is read in small pages, so that there are cursors
  const target = operation.parameters.some(({ name }) => name === 'cursor') ? `${path}?limit=2` : path
  const key = operation.method === 'POST' ? idempotencyKeys[row] : undefined
  const answer = await askPatiently(wire, {
    method: operation.method,
    target,
    headers: [
      ['Host', 'localhost'],
      ['Authorization', `Bearer ${token}`],
      ['Content-Type', 'application/json'],
      ...(key === undefined ? [] : [['Idempotency-Key', key] as const]),
    ],
    ...(operation.body && { body: JSON.stringify(validValue(operation.body, random, wishes)) }),
  })
  learn(shelf, target, answer)
  return answer
}

const pickFrom = (list: readonly string[], random: Random): string | undefined =>
  list.length === 0 ? undefined : random.pick(list)
