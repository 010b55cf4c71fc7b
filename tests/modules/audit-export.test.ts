import { createHash } from 'node:crypto'
import { once } from 'node:events'
import http, { type IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { addKeys } from '../../src/audit/sealer.ts'
import { makePool } from '../../src/db/pool.ts'
import { makeSigner, sealAll } from '../audit/seals.ts'
import { addEntries, settled } from '../audit-entries.ts'
import { type Person, world } from '../harness.ts'
import { until } from '../jobs/stage.ts'

const it = world()
let acme: Person
let globex: Person
const sockets: Socket[] = []

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
  it.app.server.on('connection', (socket) => sockets.push(socket))
})

type Line = {
  personal: Record<string, { value: string; key: string }>
  entry: Record<string, string> & { old_row: Record<string, unknown>; new_row: Record<string, unknown> }
}

const linesOf = (body: string): string[] => body.split('\n').slice(0, -1)
const parsed = (body: string): Line[] => linesOf(body).map((line) => JSON.parse(line))

/** What is sealed of a tenant's entries, in order, asked of the database by somebody whom no wall binds. */
const sealedText = async (tenantId: string, condition = 'true'): Promise<string[]> => {
  const { rows } = await it.superuser.query<{ text: string }>(
    `select app.audit_entry(l) as text from app.audit_log l where tenant_id = $1 and ${condition} order by xact, id`,
    [tenantId],
  )
  return rows.map(({ text }) => text)
}

/** An export that is read when the test says so. */
const open = async (person: Person, query = ''): Promise<IncomingMessage> => {
  const request = http.get(`${it.origin}/api/v1/audit/export${query}`, {
    agent: false,
    headers: { authorization: `Bearer ${person.accessToken}` },
  })
  onTestFinished(() => void request.destroy())
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  response.on('error', () => {}) // how it ended, drain says
  return response
}

/** Everything, and how it ended. */
const drain = async (response: IncomingMessage): Promise<{ text: string; ended: 'whole' | 'broken off' }> => {
  const chunks: Buffer[] = []
  response.on('data', (chunk) => chunks.push(chunk))
  if (!response.closed) await once(response, 'close').catch(() => {})
  return { text: Buffer.concat(chunks).toString(), ended: response.complete ? 'whole' : 'broken off' }
}

/** Transactions of the API that are open now. */
const openTransactions = async (): Promise<number> => {
  const { rows } = await it.superuser.query<{ n: number }>(
    `select count(*)::int as n from pg_locks l join pg_stat_activity a using (pid)
      where l.locktype = 'virtualxid' and a.datname = current_database() and a.usename = 'app_api'`,
  )
  return rows[0]?.n ?? 0
}

/** Bytes that the server has written to its newest connection, once it writes no more. */
const written = async (): Promise<number> => {
  const socket = sockets.at(-1)
  let before = -1
  await until(async () => {
    await sleep(300)
    const now = socket?.bytesWritten ?? 0
    const settled = now === before
    before = now
    return settled
  })
  return before
}

describe('ndjson', () => {
  test('a line for each entry that was committed, in the order of seals: what is sealed, to the byte, and what opens it', async () => {
    await acme.post('/projects', { name: 'été — "quoted", \\ and 🚀', description: 'two\nlines' })
    await settled(it.superuser)
    const committed = await sealedText(acme.tenantId)

    const answer = await acme.get('/audit/export')

    expect(answer.statusCode).toBe(200)
    expect(answer.headers['content-type']).toBe('application/x-ndjson; charset=utf-8')
    expect(answer.headers['content-disposition']).toMatch(
      /^attachment; filename="audit-log-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ\.ndjson"$/,
    )
    const lines = linesOf(answer.body)
    expect(lines.map((line) => /^\{"personal": (?:\{\}|\{.*?\}\}), "entry": (.*)\}$/.exec(line)?.[1])).toEqual(
      committed,
    )
    expect(new Set(parsed(answer.body).map(({ entry }) => entry.tenant_id))).toEqual(new Set([acme.tenantId]))
  })

  test('the key of a personal value opens the sealed one, by what its format says and nothing else', async () => {
    const lines = parsed((await acme.get('/audit/export')).body).filter(({ entry }) => entry.address !== null)

    expect(lines.length).toBeGreaterThan(3)
    for (const { personal, entry } of lines) {
      const { value, key } = personal.address ?? { value: '', key: '' }
      expect(value).toBe('127.0.0.1')
      const padded = Buffer.alloc(32)
      padded.write(`${value}\u0080`, 'latin1')
      const stream = createHash('sha256').update(Buffer.from(key, 'hex')).update('address|0').digest()
      expect(Buffer.from(padded.map((byte, index) => byte ^ (stream[index] ?? 0))).toString('hex')).toBe(entry.address)
    }
    const keys = new Set(lines.map(({ personal }) => personal.address?.key))
    expect(keys.size, 'each entry has a key of its own').toBe(lines.length)
  })

  test('of what a transaction wrote that was open meanwhile nothing is there, and all of it the next time', async () => {
    const client = await it.superuser.connect()
    onTestFinished(() => client.release())
    await client.query('begin')
    await client.query(`select app.seal($1, 'system', null, 'system', null, 'open meanwhile', null)`, [acme.tenantId])
    await client.query(`insert into app.projects (name) values ('open meanwhile')`)
    await acme.post('/projects', { name: 'written after it' })

    const during = (await acme.get('/audit/export')).body
    await client.query('commit')
    const names = (body: string) => parsed(body).flatMap(({ entry }) => entry.new_row?.name ?? [])
    const after = await until(async () => {
      const { body } = await acme.get('/audit/export')
      return body.includes('open meanwhile') && body
    })

    // neither may be there before the other could be: who goes on from the last entry would never see the first
    expect(names(during)).not.toContain('open meanwhile')
    expect(names(during)).not.toContain('written after it')
    expect(names(after).slice(-2)).toEqual(['open meanwhile', 'written after it'])
  })
})

describe('csv', () => {
  test('RFC 4180 with a header; personal values in clear; no cell is a formula', async () => {
    const { id } = (await acme.post('/projects', { name: '=1+1, "x"' }, { 'x-request-id': '-2-2' })).json()

    await settled(it.superuser)
    const answer = await acme.get(`/audit/export?format=csv&row_id=${id}`)

    expect(answer.headers['content-type']).toBe('text/csv; charset=utf-8; header=present')
    expect(answer.headers['content-disposition']).toMatch(/\.csv"$/)
    const [header = [], record = [], ...more] = recordsOf(answer.body)
    expect(more).toEqual([])
    const row = Object.fromEntries(header.map((name, index) => [name, record[index]]))
    expect(Object.keys(row).join()).toBe(
      'xact,id,at,actor_kind,actor_id,on_behalf_of,role,session_id,request_id,address,action,table,row_id,old_row,new_row',
    )
    const { xact, new_row, old_row, ...listed } = row
    expect(xact).toMatch(/^\d+$/)
    expect(JSON.parse(new_row ?? '')).toMatchObject({ id, name: '=1+1, "x"' })
    expect(old_row).toBe('')
    const [entry] = (await acme.get(`/audit/logs?row_id=${id}`)).json().data
    const { old_row: _old, new_row: _new, on_behalf_of: _other, ...shown } = entry
    // The sealed text has all six digits of a second, the list as many as it takes.
    const at = shown.at.replace(/(?:\.(\d+))?Z$/, (_: string, digits = '') => `.${digits.padEnd(6, '0')}Z`)
    expect(listed).toEqual({ ...shown, at, on_behalf_of: '', request_id: "'-2-2" })
  })
})

describe('filters', () => {
  test('leave out what they leave out of the list', async () => {
    const cut = (await acme.post('/projects', { name: 'the cut' })).json()
    await (await it.as('manager', 'acme')).post(
      '/projects',
      { name: 'by the manager' },
      { 'x-request-id': 'req-filter' },
    )
    const queries = [
      'table=projects',
      'action=read',
      `actor_id=${acme.userId}`,
      `row_id=${cut.id}`,
      'request_id=req-filter',
      `at_gte=${cut.created_at}`,
      `at_lt=${cut.created_at}`,
      `table=projects&at_gte=${cut.created_at}&actor_id=${acme.userId}`,
      'at_gte=2001-01-01T00:00:00Z&at_lt=2002-01-01T00:00:00Z',
      'at_gte=9999-12-31T23:59:59Z',
      'at_lt=0001-01-01T00:00:00Z',
    ]
    for (const query of queries) {
      // the lists come first, and are themselves entries: as many as there are then are in the export, too
      const list = (await acme.get(`/audit/logs?limit=100&${query}`)).json().data.map(({ id }: { id: string }) => id)
      await settled(it.superuser)
      const exported = parsed((await acme.get(`/audit/export?${query}`)).body).map(({ entry }) => entry.id)

      const asked = query.includes('action=read') || query.startsWith('at_gte=2026') || query.startsWith('actor_id')
      expect(asked ? exported : exported.toSorted(), query).toEqual(
        asked ? expect.arrayContaining(list) : list.toSorted(),
      )
    }
  })

  test.each(['format=xml', 'format=', 'limit=5', 'at_gte=yesterday', 'at_gte=2026-02-30T00:00:00Z', 'row_id=1'])(
    '400: %s',
    async (query) => {
      const refused = await acme.get(`/audit/export?${query}`)

      expect(refused.statusCode, refused.body).toBe(400)
      expect(refused.json().code).toBe('invalid')
      expect(refused.headers['content-disposition']).toBeUndefined()
    },
  )
})

describe('it is audited', () => {
  test('once, with what was asked, before the first byte: its pages add nothing', async () => {
    await addEntries(it.superuser, { tenantId: globex.tenantId, actorId: globex.userId, count: 2_500 })
    const entries = async () => (await sealedText(globex.tenantId, `action = 'read'`)).length
    const before = await entries()

    const response = await open(globex, '?table=projects')
    const atFirst = await entries()
    const { text } = await drain(response)

    expect(linesOf(text).length).toBeGreaterThan(2_500)
    expect(atFirst).toBe(before + 1)
    expect(await entries()).toBe(before + 1)
    const [read] = (await globex.get('/audit/logs?table=audit_export&limit=1')).json().data
    expect(read).toMatchObject({
      action: 'read',
      actor_id: globex.userId,
      address: '127.0.0.1',
      new_row: { query: { format: 'ndjson', table: 'projects' } },
    })
  })

  test('and is in the next export, not in its own', async () => {
    const first = (await globex.get('/audit/export?table=audit_export', { 'x-request-id': 'req-own' })).body
    await settled(it.superuser)
    const second = (await globex.get('/audit/export?table=audit_export')).body

    expect(first).not.toContain('req-own')
    expect(second).toContain('req-own')
  })
})

describe('many entries', () => {
  const COUNT = 20_000

  beforeAll(() => addEntries(it.superuser, { tenantId: acme.tenantId, actorId: acme.userId, count: COUNT }))

  test('all of them, in order, none twice', async () => {
    const { text, ended } = await drain(await open(acme))

    expect(ended).toBe('whole')
    const positions = linesOf(text).map(
      (line) => /"id": "([0-9a-f-]+)", .*"xact": (\d+)[,}]/.exec(line)?.slice(1) ?? [],
    )
    expect(positions.length).toBeGreaterThan(COUNT)
    expect(new Set(positions.map(([id]) => id)).size).toBe(positions.length)
    const sorted = positions.toSorted(([a = '', x], [b = '', y]) => Number(x) - Number(y) || (a < b ? -1 : 1))
    expect(positions).toEqual(sorted)
  })

  test('who does not read is not sent more than the network holds, and holds no connection to the database', async () => {
    const stalled = await Promise.all(Array.from({ length: 15 }, () => open(acme)))
    const sent = await written()

    expect(stalled.map(({ statusCode }) => statusCode)).toEqual(Array(15).fill(200))
    expect(sent).toBeGreaterThan(0)
    expect(sent).toBeLessThan(20_000_000)
    await until(async () => (await openTransactions()) === 0)
    expect((await acme.get('/projects?limit=1')).statusCode).toBe(200)

    const { text, ended } = await drain(stalled[7] as IncomingMessage)
    expect(ended).toBe('whole')
    expect(Buffer.byteLength(text)).toBeGreaterThan(30_000_000)
  })

  test('a client that goes away ends it, and its connection is clean', async () => {
    const response = await open(acme)
    await once(response, 'readable')
    response.destroy()

    await until(async () => (await openTransactions()) === 0)
    for (let round = 0; round < 20; round += 1) expect((await acme.get('/projects?limit=1')).statusCode).toBe(200)
    expect(await written()).toBeLessThan(20_000_000)
  })

  test('a session that is revoked meanwhile gets no further page: the answer is broken off, and never a short file', async () => {
    const person = await it.as('admin', 'acme')
    const response = await open(person)
    await written()

    expect(
      (await person.post('/auth/logout', { refresh_token: person.refreshToken, everywhere: true })).statusCode,
    ).toBe(204)
    const { text, ended } = await drain(response)

    expect(ended).toBe('broken off')
    expect(linesOf(text).length).toBeLessThan(COUNT)
  })

  test('a database that fails for good breaks it off; one that fails for a moment does not', async () => {
    const passing = await open(acme)
    const failing = await open(acme)
    await written()
    const kill = () =>
      it.superuser.query(
        `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = 'app_api'`,
      )
    const whole = drain(passing)
    for (let round = 0; round < 5; round += 1) await kill().then(() => sleep(100))
    expect((await whole).ended).toBe('whole')
    expect(linesOf((await whole).text).length).toBeGreaterThan(COUNT)

    await it.superuser.query('revoke execute on function app.audit_entry(app.audit_log) from app_api')
    onTestFinished(async () => {
      await it.superuser.query('grant execute on function app.audit_entry(app.audit_log) to app_api')
    })
    expect((await drain(failing)).ended).toBe('broken off')
  })
})

test('what fails before the first byte is answered as a problem, and not as a file', async () => {
  await it.superuser.query('revoke execute on function app.audit_entry(app.audit_log) from app_api')
  onTestFinished(async () => {
    await it.superuser.query('grant execute on function app.audit_entry(app.audit_log) to app_api')
  })

  const answer = await acme.get('/audit/export')

  expect(answer.statusCode).toBe(404)
  expect(answer.headers['content-type']).toBe('application/problem+json; charset=utf-8')
  expect(answer.headers['content-disposition']).toBeUndefined()
})

test('in a database that was restored, not before the sealer has seen it; then whatever came along, too', async () => {
  const worker = makePool(it.database.urls.worker, { max: 1, waitMs: 5000, name: 'seal test', onError: () => {} })
  onTestFinished(() => worker.end())
  const signer = makeSigner()
  await addKeys(worker, [signer])
  await sealAll(worker, signer)
  // written on a server that had counted further than this one, and a row of the sealer's that nobody wrote here
  await it.superuser.query(
    `insert into app.audit_log (tenant_id, xact, actor_kind, action, table_name) values ($1, 999999999999, 'system', 'insert', 'restored')`,
    [globex.tenantId],
  )
  await it.superuser.query('update app.audit_sealing set xact = 1')

  const before = await globex.get('/audit/export')
  await sleep(5)
  await sealAll(worker, signer)
  const after = await globex.get('/audit/export?table=restored')

  expect(before.statusCode).toBe(503)
  expect(before.headers['retry-after']).toBe('1')
  expect(parsed(after.body).map(({ entry }) => entry.table)).toEqual(['restored'])
})

test('426: HTTP/1.0 cannot tell a whole answer from one that was cut off', async () => {
  const ask = async (line: string): Promise<string> => {
    const socket = connect(Number(new URL(it.origin).port), '127.0.0.1')
    socket.write(`${line} HTTP/1.0\r\nHost: a\r\nAuthorization: Bearer ${acme.accessToken}\r\n\r\n`)
    return (await socket.toArray()).join('')
  }

  const refused = await ask('GET /api/v1/audit/export')
  const list = await ask('GET /api/v1/audit/logs?limit=1')

  expect(refused).toMatch(/^HTTP\/1\.1 426 .*\r\nupgrade: HTTP\/1\.1\r\nconnection: upgrade, close\r\n/is)
  expect(JSON.parse(refused.slice(refused.indexOf('{'))).code).toBe('upgrade_required')
  expect(list).toMatch(/^HTTP\/1\.1 200 /)
})

test('HEAD: the headers, and nothing is read', async () => {
  const answer = await acme.head('/audit/export?format=csv')

  expect(answer.statusCode).toBe(200)
  expect(answer.headers['content-type']).toBe('text/csv; charset=utf-8; header=present')
  expect(answer.headers['content-length']).toBeUndefined()
})

test('403: managers and members export nothing; 406: it is not JSON', async () => {
  for (const role of ['manager', 'member']) {
    const refused = await (await it.as(role, 'acme')).get('/audit/export')
    expect(refused.statusCode).toBe(403)
    expect(refused.json().code).toBe('forbidden')
  }
  expect((await acme.get('/audit/export', { accept: 'application/json' })).statusCode).toBe(406)
  expect((await acme.get('/audit/export', { accept: 'text/csv' })).statusCode).toBe(200)
})

test('what opens an entry is had by who may read it, in their own tenant', async () => {
  const foreign = (await sealedText(globex.tenantId)).map((text) => JSON.parse(text).id)
  const ask = async (as: string, tenantId: string) => {
    const client = await it.superuser.connect()
    try {
      await client.query('begin')
      await client.query(`select app.seal($1, 'user', $2, $3, null, 'test', null)`, [tenantId, acme.userId, as])
      await client.query('set local role app_api')
      const { rows: openings } = await client.query('select * from app.personal_openings($1)', [foreign])
      const { rows: revealed } = await client.query(
        'select from unnest($1::uuid[]) id where app.reveal_entry(id) is not null',
        [foreign],
      )
      return [openings.length, revealed.length]
    } finally {
      client.release(true)
    }
  }

  expect(await ask('owner', globex.tenantId)).toEqual([expect.toSatisfy((count) => count > 0), foreign.length])
  expect(await ask('owner', acme.tenantId)).toEqual([0, 0])
  expect(await ask('manager', globex.tenantId)).toEqual([0, 0])
})

/** A reader of RFC 4180 that knows nothing of the writer. */
const recordsOf = (text: string): string[][] => {
  const records: string[][] = []
  const pattern = /("(?:[^"]|"")*"|[^",\r\n]*)(,|\r\n)/gy
  let record: string[] = []
  for (const [, cell = '', end] of text.matchAll(pattern)) {
    record.push(cell.startsWith('"') ? cell.slice(1, -1).replaceAll('""', '"') : cell)
    if (end === ',') continue
    records.push(record)
    record = []
  }
  return records
}
