import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { type Pressure, underPressure } from '../../src/plugins/under-pressure.ts'
import { serve } from './serve.ts'

const roomy: Pressure = { maxEventLoopDelayMs: 60_000, maxHeapBytes: 1e12, maxRssBytes: 1e12 }

const app = (limits: Partial<Pressure>) =>
  serve(async (app) => {
    await app.register(underPressure, { limits: { ...roomy, ...limits } })
    app.get('/things', async () => ({}))
    app.get('/probe', { config: { probe: true } }, async () => ({}))
  })

test.each([
  ['memory', { maxRssBytes: 1 }],
  ['its heap', { maxHeapBytes: 1 }],
])('503: beyond its limit of %s it sheds load, and still answers probes', async (_what, limits) => {
  const { client } = await app(limits)
  await sleep(700) // it looks twice a second

  const answer = await client.get('//things')
  const probe = await client.get('//probe')

  expect(answer.statusCode).toBe(503)
  expect(answer.json().code).toBe('overloaded')
  expect(answer.headers['retry-after']).toBe('5')
  expect(probe.statusCode).toBe(200)
})

test('within its limits it answers', async () => {
  const { client } = await app({})
  await sleep(700)

  expect((await client.get('//things')).statusCode).toBe(200)
})

test('after a pause of the whole process it answers', async () => {
  const { client } = await app({})
  await sleep(700)
  const pause = () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_100)

  // A pause ends between two samples now and then, and shows nothing.
  for (let round = 0; round < 5; round += 1) {
    const answer = client.get('//things')
    pause()
    expect((await answer).statusCode).toBe(200)
  }
})
