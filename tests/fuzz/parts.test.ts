import { createServer } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { type Answer, makeWire } from '../../scripts/fuzz/http/wire.ts'
import { makeMask } from '../../scripts/fuzz/mask.ts'
import { makeCanaries, makeNeedles, makeScanner, unguessables } from '../../scripts/fuzz/needles.ts'
import { makeRandom } from '../../scripts/fuzz/random.ts'

// What the fuzzers stand on: a search that finds nothing because it cannot find would look like a wall that holds.

const id = '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11'
const time = '2026-03-01 12:00:00.123456'
const { marker, next } = makeCanaries()
const needles = makeNeedles(marker, new Set([id, time]))

describe('what nobody could guess is found', () => {
  const text = next()
  test.each([
    ['a text', `{"name":"${text}"}`],
    ['in upper case', text.toUpperCase()],
    ['as hexadecimal digits', Buffer.from(`x${text}`).toString('hex')],
    ['as base64', Buffer.from(text).toString('base64')],
    ['as base64 after one byte', Buffer.from(`x${text}`).toString('base64')],
    ['as base64 after two bytes', Buffer.from(`xy${text}`).toString('base64')],
    ['an id', `"${id}"`],
    ['an id in upper case', id.toUpperCase()],
    ['an id without its dashes', `\\x${id.replaceAll('-', '')}`],
    ['a time as PostgreSQL writes it', `(${time}+00)`],
    ['a time as JSON has it', `"${time.replace(' ', 'T')}Z"`],
  ])('%s', (_form, bytes) => {
    expect(needles.find(`before ${bytes} after`)).toBeDefined()
  })

  test('in a stream, wherever it is cut', () => {
    for (let cut = 1; cut < text.length; cut++) {
      const scanner = makeScanner(needles)
      const heard = [`…${text.slice(0, cut)}`, `${text.slice(cut)}…`].map((bytes) => scanner.feed(bytes, () => ''))
      expect(heard.at(-1), `after ${cut}`).toBeDefined()
    }
  })

  test('and what was sent comes back as no leak, nor does anybody else’s', () => {
    expect(needles.find(`no row has ${id}`, `select '${id}'`)).toBeUndefined()
    expect(needles.find(`no row has ${text}`, `select '${text}'`)).toBeUndefined()
    expect(needles.find(`${makeRandom(1).uuid()} 2026-03-01 12:00:00.123457`)).toBeUndefined()
  })

  test('in a row as it is kept', () => {
    expect(
      unguessables(JSON.stringify({ id, at: time.replace(' ', 'T'), n: 1, hash: `\\x${'ab'.repeat(32)}` })),
    ).toEqual([id, time, 'ab'.repeat(32)])
  })
})

describe('a mask', () => {
  const other = '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e12'

  test('makes alike what chance and clock made, and keeps what comes again', () => {
    expect(makeMask()(`${id} ${other} ${id}`)).toBe(makeMask()(`${other} ${id} ${other}`))
    expect(makeMask()(`${id} ${other} ${id}`)).not.toBe(makeMask()(`${id} ${other} ${other}`))
    expect(makeMask()('2026-03-01T12:00:00.1Z')).toBe(makeMask()('2026-03-01T12:00:00.123456Z'))
  })

  test('knows a time in each of its forms, and no other', () => {
    const of = (first: string, second: string) => makeMask()(`${first} and ${second}`)
    const same = of('2026-03-01T12:00:00.1Z', '2026-03-01T12:00:00.1Z')
    for (const form of ['2026-03-01T12:00:00.100000Z', '2026-03-01 12:00:00.1+00', '2026-03-01 12:00:00.100+00:00']) {
      expect(of('2026-03-01T12:00:00.1Z', form), form).toBe(same)
    }
    expect(of('2026-03-01T12:00:00.1Z', '2026-03-01T12:00:00.01Z')).not.toBe(same)
    expect(of('2026-03-01T12:00:10Z', '2026-03-01T12:00:10.000000Z')).toBe(same)
    expect(of('2026-03-01T12:00:10Z', '2026-03-01T12:00:01Z')).not.toBe(same)
  })

  test('takes the seconds in two names of files for alike, whether or not they are one', () => {
    const of = (first: string, second: string) => makeMask()(`log-${first}.csv log-${second}.csv`)
    expect(of('2026-03-01T12-00-00Z', '2026-03-01T12-00-00Z')).toBe(of('2026-03-01T12-00-00Z', '2026-03-01T12-00-01Z'))
  })

  test('keeps everything else', () => {
    for (const [one, two] of [
      ['404', '403'],
      ['"total":33', '"total":45'],
      ['name 1', 'name 2'],
      ['"version":1', '"version":2'],
    ] as const) {
      expect(makeMask()(one)).not.toBe(makeMask()(two))
    }
  })

  test('remembers from one answer to the next', () => {
    const [one, two] = [makeMask(), makeMask()]
    expect([one(id), one(other), one(id)]).toEqual([two(other), two(id), two(other)])
  })
})

test('the same seed makes the same choices, and another makes others', () => {
  const choices = (seed: string) => {
    const random = makeRandom(seed)
    return [random.uuid(), random.word(8), ...Array.from({ length: 20 }, () => random.below(1_000))]
  }
  expect(choices('a')).toEqual(choices('a'))
  expect(choices('a')).not.toEqual(choices('b'))
})

describe('an answer is read to its last byte', () => {
  const answering = async (method: string, ...chunks: string[]): Promise<Answer> => {
    const server = createServer((socket) => {
      socket.once('data', async () => {
        for (const chunk of chunks) {
          socket.write(chunk)
          await new Promise((resolve) => setImmediate(resolve))
        }
        if (!/length|chunked/i.test(chunks.join(''))) socket.end()
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    const wire = makeWire(typeof address === 'object' && address ? address.port : 0, 2_000)
    onTestFinished(() => {
      wire.close()
      server.close()
    })
    return wire.ask({ method, target: '/', headers: [['Host', 'x']] })
  }

  test.each([
    ['of a length', 'GET', ['HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe', 'llo'], 'hello'],
    [
      'in chunks',
      'GET',
      ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel', '\r\n2\r\nlo\r\n0', '\r\n\r\n'],
      'hello',
    ],
    ['up to its end', 'GET', ['HTTP/1.1 200 OK\r\n\r\n', 'hello'], 'hello'],
    [
      'after an interim one',
      'GET',
      ['HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello'],
      'hello',
    ],
    ['without a body', 'HEAD', ['HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n'], ''],
  ] as const)('%s', async (_how, method, chunks, body) => {
    const answer = await answering(method, ...chunks)

    expect(answer).toMatchObject({ status: 200, body, cut: false })
    expect(answer.raw).toBe(chunks.join(''))
  })

  test('one that ends too early is said to be cut', async () => {
    const server = await answering(
      'GET',
      'HTTP/1.1 200 OK\r\nX-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhel',
    )
    expect(server).toMatchObject({ status: 200, cut: true })
    expect(server.raw).toContain('hel')
  })
})
