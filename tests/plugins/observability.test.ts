import { Writable } from 'node:stream'
import type { FastifyBaseLogger } from 'fastify'
import { beforeAll, describe, expect, test } from 'vitest'
import { describeError, makeLogger } from '../../src/log.ts'
import { RequestLog } from '../../src/plugins/observability.ts'
import { world } from '../harness.ts'
import { serve } from './serve.ts'

type Line = Record<string, unknown>

const keep = () => {
  const lines: string[] = []
  const stream = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk))
      done()
    },
  })
  return { stream, text: () => lines.join(''), parsed: () => lines.map((line): Line => JSON.parse(line)) }
}

const log = keep()
const it = world({ env: { LOG_LEVEL: 'debug' }, log: log.stream })

describe('the request line', () => {
  let line: Line | undefined

  beforeAll(async () => {
    const acme = await it.as('owner', 'acme')
    const answer = await acme.get('/projects/01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11?hunter2=1', {
      'x-request-id': 'seen-1',
    })
    expect(answer.statusCode).toBe(400) // it knows no such parameter
    line = log.parsed().find(({ request_id, msg }) => request_id === 'seen-1' && msg === 'request')
  })

  test('tells route, status, problem, time, who and where from', () => {
    expect(line).toMatchObject({
      level: 'info',
      request_id: 'seen-1',
      method: 'GET',
      route: '/api/v1/projects/:id',
      status: 400,
      problem: 'invalid',
      ms: expect.any(Number),
      address: '127.0.0.1',
      actor: expect.stringMatching(/^[0-9a-f-]{36}$/),
      tenant_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
    })
  })

  test('is one, and has neither target nor headers', () => {
    const lines = log.parsed().filter(({ request_id }) => request_id === 'seen-1')

    expect(lines).toHaveLength(1)
    expect(Object.keys(line ?? {}).sort()).toEqual(
      [
        'actor',
        'address',
        'level',
        'method',
        'ms',
        'msg',
        'problem',
        'request_id',
        'route',
        'status',
        'tenant_id',
        'time',
      ].sort(),
    )
  })

  test('is written for refusals, too, and not for probes that went well', async () => {
    await it.anybody.get('//absent', { 'x-request-id': 'seen-2' })
    await it.anybody.get('//health/live', { 'x-request-id': 'seen-3' })

    expect(log.parsed().find(({ request_id }) => request_id === 'seen-2')).toMatchObject({ route: null, status: 404 })
    expect(log.parsed().find(({ request_id }) => request_id === 'seen-3')).toBeUndefined()
  })
})

test('no secret is in the log, whatever went right or wrong', async () => {
  const acme = await it.as('owner', 'acme')
  await it.anybody.post('/auth/login', { email: 'canary@acme.test', password: 'canary-password-1' })
  await it.anybody.post('/auth/login', '{"email":"canary@acme.test","password":"canary-password-2"')
  await it.anybody.post('/auth/token/refresh', { refresh_token: 'canary-refresh' })
  await it.anybody.get('/projects?token=canary-query', {
    authorization: 'Bearer canary-bearer',
    cookie: 'canary-cookie',
  })
  await acme.post('/projects', { name: 'canary-body\u0000' })
  await acme.post('/projects', { name: 'apollo', description: 'canary-description' })

  const text = log.text()

  expect(text.length).toBeGreaterThan(1_000)
  expect(text).not.toContain('canary')
  for (const secret of [acme.accessToken, acme.refreshToken, 'correct horse battery staple']) {
    expect(text).not.toContain(secret)
  }
})

test('a line that contains itself has an end', () => {
  const { stream, text } = keep()
  const line: Line = { name: 'kept' }
  line.self = line

  makeLogger({ logLevel: 'info' }, stream).info(line, 'x')

  expect(text()).toContain('kept')
})

test('fields that hold secrets are blanked wherever they stand', () => {
  const { stream, text } = keep()

  makeLogger({ logLevel: 'info' }, stream).info(
    {
      password: 'canary',
      body: { password: 'canary', refresh_token: 'canary' },
      list: [{ secret: 'canary' }],
      deep: { deeper: { headers: { Authorization: 'canary', cookie: 'canary', 'set-cookie': 'canary' } } },
      req: { headers: 'canary' },
      res: { headers: 'canary' },
      user: { name: 'kept' },
    },
    'x',
  )

  expect(text()).not.toContain('canary')
  expect(JSON.parse(text())).toMatchObject({ list: [{ secret: '[redacted]' }], user: { name: 'kept' } })
})

describe('what went wrong', () => {
  const databaseError = (code: string, message: string) =>
    Object.assign(new Error(message), {
      severity: 'ERROR',
      code,
      detail: 'Failing row contains (canary)',
      where: 'unnamed portal with parameters: $1 = canary',
      table: 'projects',
    })

  const throwing = async (error: unknown) => {
    const { stream, parsed } = keep()
    const { client } = await serve(
      (app) => {
        app.get('/', async () => {
          throw error
        })
      },
      {
        loggerInstance: makeLogger({ logLevel: 'info' }, stream) as FastifyBaseLogger,
        logController: new RequestLog(() => undefined),
      },
    )
    const answer = await client.get('//')
    return { answer, lines: parsed() }
  }

  test('our own faults are logged with their cause, under the id that the caller was told', async () => {
    const { answer, lines } = await throwing(new Error('it broke'))

    const line = lines.find(({ level }) => level === 'error')
    expect(line).toMatchObject({
      request_id: answer.json().request_id,
      err: { message: 'it broke', stack: expect.any(String) },
    })
  })

  test('what only tampering causes raises an alarm', async () => {
    const { answer, lines } = await throwing(databaseError('BH007', 'the context does not fit'))

    expect(answer.json().code).toBe('internal')
    expect(lines.find(({ level }) => level === 'fatal')).toMatchObject({
      alarm: 'context_tampered',
      err: { sqlstate: 'BH007' },
    })
  })

  test('what is away for a while is a warning', async () => {
    const { lines } = await throwing(databaseError('57P01', 'terminating connection due to administrator command'))

    expect(lines.filter(({ level }) => level === 'warn')).toHaveLength(1)
    expect(lines.filter(({ level }) => level === 'error' || level === 'fatal')).toHaveLength(0)
  })

  test('of what PostgreSQL says, no values', () => {
    const described = JSON.stringify([
      describeError(databaseError('XX000', 'internal')),
      describeError(databaseError('22P02', 'invalid input syntax for type uuid: "canary"')),
      describeError(new Error('outer', { cause: databaseError('22P02', '"canary"') })),
      describeError('canary'),
    ])

    expect(described).not.toContain('canary')
    expect(described).toContain('22P02')
    expect(described).toContain('projects')
  })
})
