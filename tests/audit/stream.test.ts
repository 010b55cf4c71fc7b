import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { createServer as createTlsServer } from 'node:tls'
import { pathToFileURL } from 'node:url'
import { describe, expect, onTestFinished, test } from 'vitest'
import { parseCheckpoint, parseNote } from '../../src/audit/checkpoint.ts'
import { openDestination } from '../../src/audit/destinations.ts'
import { objectDestination } from '../../src/audit/objects.ts'
import { folderSink } from '../../src/audit/sinks.ts'
import { type Destination, type Message, startStreams } from '../../src/audit/stream.ts'
import { syslogMessage } from '../../src/audit/syslog.ts'
import { makeLogger } from '../../src/log.ts'
import { addEntries, settled } from '../audit-entries.ts'
import { selfSigned } from '../certificates.ts'
import { testEnvironment } from '../harness.ts'
import { until } from '../jobs/stage.ts'
import { auditStage } from './stage.ts'

const it = auditStage()
const quick = { lease: 30, firstWaitMs: 50, longestWaitMs: 200 }

/** Seals everything that has been committed. */
const seal = async () => {
  await settled(it.superuser)
  await it.seal()
}

/** What is sealed, in the order of the seals, asked of the database by somebody whom no wall binds. */
const sealed = async (): Promise<{ tenant: string; batch: string; position: string; text: string }[]> => {
  const { rows } = await it.superuser.query(
    `select s.tenant_id as tenant, s.batch, s.position, app.audit_entry(e) as text
       from app.audit_seals s
       join app.audit_log e on e.tenant_id = s.tenant_id and e.xact >= s.from_xact and e.xact < s.to_xact and app.audit_month(e.id) = s.month
        and e.id >= s.era_from and e.id < coalesce((select n.era_from from app.audit_seals n where n.era > s.era order by n.era limit 1), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
      order by s.position, e.xact, e.id`,
  )
  return rows
}

const positionOf = async (to: Destination): Promise<number> => {
  const { rows } = await it.superuser.query(
    `select position::int from app.audit_streams where name = 'entries ' || left(encode(sha256($1), 'hex'), 16)`,
    [Buffer.from(to.name)],
  )
  return rows[0]?.position ?? 0
}
const lastSeal = async (): Promise<number> =>
  (await it.superuser.query('select max(position)::int as last from app.audit_seals')).rows[0].last

/** Streams until the test is over, or is told to stop. `lines` is the log. */
const stream = (destinations: Destination[], pace = quick) => {
  const lines: string[] = []
  const sink = new Writable({ write: (chunk, _encoding, done) => done(void lines.push(String(chunk))) })
  const streams = startStreams({ pool: it.worker, destinations, log: makeLogger({ logLevel: 'debug' }, sink), pace })
  onTestFinished(() => streams.stop())
  return { ...streams, lines }
}

const caughtUp = (...destinations: Destination[]) =>
  until(async () => {
    const [last, ...positions] = await Promise.all([lastSeal(), ...destinations.map(positionOf)])
    return positions.every((position) => position === last)
  })

const folder = (): string => {
  const path = mkdtempSync(join(tmpdir(), 'bulkhead-stream-'))
  onTestFinished(() => rmSync(path, { recursive: true }))
  return path
}

type Line = { tenant_id: string; batch: number; position: number; entry?: { id: string }; checkpoint?: string }

const linesIn = (path: string): { file: string; raw: string; line: Line }[] =>
  readdirSync(path, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ndjson'))
    .sort()
    .flatMap((file) => {
      const text = readFileSync(join(path, file), 'utf8')
      expect(text.endsWith('\n')).toBe(true)
      return text
        .slice(0, -1)
        .split('\n')
        .map((raw) => ({ file, raw, line: JSON.parse(raw) }))
    })

/** The entries in them, in order, as text. */
const entriesIn = (lines: { raw: string }[]): string[] =>
  lines.flatMap(
    ({ raw }) => /^\{"tenant_id": "[^"]+", "batch": \d+, "position": \d+, "entry": (.*)\}$/.exec(raw)?.[1] ?? [],
  )

describe('file:///folder', () => {
  test('entries are there in the order of their seals, to the byte, each batch with its checkpoint behind it', async () => {
    const path = folder()
    await it.write(it.acme, 3)
    await it.write(it.globex, 2)
    await seal()
    const to = openDestination(pathToFileURL(path).href, 50)

    stream([to])
    await caughtUp(to)

    const lines = linesIn(path)
    const expected = await sealed()
    expect(expected.length).toBeGreaterThan(10)
    expect(entriesIn(lines)).toEqual(expected.map(({ text }) => text))
    const places = lines.flatMap(({ line }) => (line.entry ? [[line.tenant_id, line.batch, line.position]] : []))
    expect(places).toEqual(expected.map(({ tenant, batch, position }) => [tenant, Number(batch), Number(position)]))
    for (const [index, { line }] of lines.entries()) {
      const next = lines[index + 1]?.line
      const isLast = next?.position !== line.position
      expect(line.checkpoint !== undefined).toBe(isLast)
      if (!isLast) continue
      const checkpoint = parseCheckpoint(parseNote(line.checkpoint ?? '')?.text ?? '')
      expect(checkpoint).toMatchObject({ tenantId: line.tenant_id, batch: line.batch })
      expect(checkpoint?.entries).toBe(
        lines.filter((other) => other.line.entry && other.line.position === line.position).length,
      )
    }
  })

  test('it goes on where it stopped: nothing twice, nothing missing', async () => {
    const path = folder()
    const to = openDestination(pathToFileURL(path).href, 50)
    for (let round = 0; round < 4; round += 1) {
      const running = stream([to])
      await it.write(round % 2 === 0 ? it.acme : it.globex, 4)
      await seal()
      await caughtUp(to)
      await running.stop()
      await it.write(it.acme, 2)
      await seal()
    }
    stream([to])
    await caughtUp(to)

    expect(entriesIn(linesIn(path))).toEqual((await sealed()).map(({ text }) => text))
  })

  test('in files of about the size that is wanted, each there as a whole', async () => {
    const path = folder()
    await it.write(it.acme, 50)
    await seal()
    const to = objectDestination(folderSink(path), 50, 4_000)

    stream([to])
    await caughtUp(to)

    const lines = linesIn(path)
    const sizes = Map.groupBy(lines, ({ file }) => file)
    expect(sizes.size).toBeGreaterThan(5)
    for (const [, inFile] of sizes) {
      expect(
        Buffer.byteLength(
          inFile
            .slice(0, -1)
            .map(({ raw }) => `${raw}\n`)
            .join(''),
        ),
      ).toBeLessThan(4_000)
    }
    expect(entriesIn(lines)).toEqual((await sealed()).map(({ text }) => text))
    expect(readdirSync(path, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.new'))).toEqual([])
  })

  test('nothing in clear that belongs to a person, and no key that opens it', async () => {
    const path = folder()
    const to = openDestination(pathToFileURL(path).href, 50)
    stream([to])
    await caughtUp(to)

    const text = linesIn(path)
      .map(({ raw }) => raw)
      .join('\n')
    expect(text).toMatch(/"address": "[0-9a-f]{64}"/)
    expect(text).not.toContain('192.0.2.7') // as which everything here is written
    expect(text).not.toContain('127.0.0.1')
    expect(text).not.toContain('"key"')
  })

  test('a worker that is killed again and again loses nothing', async () => {
    const path = folder()
    const to = openDestination(pathToFileURL(path).href, 50)
    const { privateKey } = it.signer
    const env = {
      PATH: process.env.PATH,
      ...testEnvironment(it.database.urls),
      AUDIT_KEYS: JSON.stringify([{ ...privateKey.export({ format: 'jwk' }), kid: it.signer.id }]),
      AUDIT_SEAL_INTERVAL: '50ms',
      AUDIT_STREAM: pathToFileURL(path).href,
      AUDIT_STREAM_INTERVAL: '10ms',
    }
    const start = async () => {
      const file = new URL('../../src/worker.ts', import.meta.url).pathname
      const child = spawn(process.execPath, [file], { env, cwd: path, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
      onTestFinished(() => void child.kill('SIGKILL'))
      await once(child, 'message')
      return child
    }
    for (let round = 0; round < 3; round += 1) {
      const child = await start()
      const before = await positionOf(to)
      for (let n = 0; n < 20; n += 1) await it.write(n % 2 === 0 ? it.acme : it.globex, 5)
      await until(async () => (await positionOf(to)) > before)
      child.kill('SIGKILL')
      await once(child, 'exit')
      // a lease of its own ends with time
      await it.superuser.query('update app.audit_streams set held_until = now()')
    }
    await seal()
    stream([to])
    await caughtUp(to)

    const streamed = entriesIn(linesIn(path))
    const expected = (await sealed()).map(({ text }) => text)
    expect(expected.length).toBeGreaterThan(300)
    expect([...new Set(streamed)]).toEqual(expected)
  })
})

describe('syslog', () => {
  type Frame = {
    pri: string
    version: string
    at: string
    app: string
    kind: string
    data: Record<string, string>
    text: string
  }

  /** A reader of RFC 6587 octet counting and RFC 5424 that knows nothing of the writer. */
  const framesIn = (bytes: Buffer): Frame[] => {
    const frames: Frame[] = []
    for (let at = 0; at < bytes.length; ) {
      const space = bytes.indexOf(0x20, at)
      const length = Number(bytes.subarray(at, space).toString('latin1'))
      if (space < 0 || !(length > 0) || space + 1 + length > bytes.length) break
      const text = bytes.subarray(space + 1, space + 1 + length).toString()
      const found =
        /^<(?<pri>\d{1,3})>(?<version>1) (?<at>\S+) (?<host>[\x21-\x7e]{1,255}) (?<app>[\x21-\x7e]{1,48}) - (?<kind>[\x21-\x7e]{1,32}) \[(?<id>[^ =\]"]{1,32})(?<data>(?: [^ =\]"]{1,32}="[^"\\\]]*")*)\] (?<text>.*)$/s.exec(
          text,
        )
      if (!found?.groups) throw new Error(`no message of RFC 5424: ${text}`)
      const { data = '', ...groups } = found.groups
      const pairs = [...data.matchAll(/ ([^=]+)="([^"]*)"/g)].map(([, name, value]) => [name, value])
      frames.push({ ...groups, data: Object.fromEntries(pairs) } as Frame)
      at = space + 1 + length
    }
    return frames
  }

  type Receiver = { address: string; received: Buffer[]; connections: Socket[]; server: Server }

  const receiver = async (
    make: (serve: (socket: Socket) => void) => Server = (serve) => createServer(serve),
    serve: (socket: Socket, received: Buffer[]) => void = (socket, received) => {
      const chunks: Buffer[] = []
      socket.on('data', (chunk) => chunks.push(chunk))
      socket.on('end', () => received.push(Buffer.concat(chunks)))
    },
  ): Promise<Receiver> => {
    const received: Buffer[] = []
    const connections: Socket[] = []
    const server = make((socket) => {
      connections.push(socket)
      socket.on('error', () => {})
      serve(socket, received)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => {
      for (const socket of connections) socket.destroy()
      server.close()
    })
    return { address: `syslog://127.0.0.1:${(server.address() as AddressInfo).port}`, received, connections, server }
  }

  const textsIn = (received: Buffer[], kind = 'entry'): string[] =>
    received.flatMap((bytes) =>
      framesIn(bytes)
        .filter((frame) => frame.kind === kind)
        .map(({ text }) => text),
    )

  test('a message is one of RFC 5424, for any text', () => {
    const message: Message = {
      kind: 'entry',
      tenantId: '01997b0e-7a2c-78be-8734-f22d90dd7695',
      batch: '12',
      position: '345',
      index: 6,
      at: '2026-03-01T12:00:00.123456Z',
      sealedAt: '2026-03-01T12:00:03.000000Z',
      text: '{"name": "été 🚀"}',
    }
    const text = Buffer.from(syslogMessage(message))

    const [frame] = framesIn(Buffer.concat([Buffer.from(`${text.length} `), text]))

    expect(frame).toMatchObject({
      pri: '110',
      version: '1',
      at: message.at,
      app: 'bulkhead',
      kind: 'entry',
      id: 'audit@32473',
      data: { tenant: message.tenantId, batch: '12', position: '345', index: '6' },
      text: message.text,
    })
  })

  test('over TCP: everything, in order, and a connection for each delivery', async () => {
    const { address, received } = await receiver()
    await it.write(it.acme, 3)
    await seal()
    const to = openDestination(address, 50)

    stream([to])
    await caughtUp(to)

    expect(textsIn(received)).toEqual((await sealed()).map(({ text }) => text))
    const last = received.flatMap(framesIn).at(-1)
    expect(last?.kind).toBe('checkpoint')
    expect(parseCheckpoint(parseNote(JSON.parse(last?.text ?? ''))?.text ?? '')).toMatchObject({
      tenantId: last?.data.tenant,
      batch: Number(last?.data.batch),
    })
    expect(Number(last?.data.position)).toBe(await lastSeal())
  })

  describe('over TLS', () => {
    const { key, cert } = selfSigned()
    const path = join(tmpdir(), `bulkhead-ca-${process.pid}.pem`)
    const tls = () => receiver((serve) => createTlsServer({ key, cert }, serve) as unknown as Server)

    test('to whom it trusts', async () => {
      writeFileSync(path, cert)
      onTestFinished(() => rmSync(path))
      const { address, received } = await tls()
      const to = openDestination(`${address.replace('syslog', 'syslog+tls')}?ca=${path}`, 50)

      stream([to])
      await caughtUp(to)

      expect(textsIn(received)).toEqual((await sealed()).map(({ text }) => text))
    })

    test('and to nobody else, who is not told a byte', async () => {
      const { address, received, connections } = await tls()
      const to = openDestination(address.replace('syslog', 'syslog+tls'), 50)

      const { lines } = stream([to])
      await until(async () =>
        lines.some((line) => line.includes('"self-signed certificate"') || line.includes('SELF_SIGNED')),
      )

      expect(await positionOf(to)).toBe(0)
      expect(Buffer.concat(received).length).toBe(0)
      expect(connections.every((socket) => socket.bytesRead === 0)).toBe(true)
    })

    test('with a file that is not there it does not start', () => {
      expect(() => openDestination('syslog+tls://siem.example?ca=/nowhere.pem', 50)).toThrow(
        'AUDIT_STREAM: ca=/nowhere.pem cannot be read (ENOENT)',
      )
    })
  })

  test('a receiver that breaks off midway is sent everything again: nothing is missing, and the order holds', async () => {
    let broken = 0
    const { address, received } = await receiver(undefined, (socket, received) => {
      const chunks: Buffer[] = []
      const breaks = broken < 3
      socket.on('data', (chunk) => {
        chunks.push(chunk)
        if (!breaks) return
        broken += 1
        received.push(chunk.subarray(0, 3_000)) // it has read some of it, and kept it
        socket.resetAndDestroy()
      })
      socket.on('end', () => breaks || received.push(Buffer.concat(chunks)))
    })
    await it.write(it.acme, 30)
    await seal()
    const to = openDestination(address, 50)

    const { lines } = stream([to])
    await caughtUp(to)

    expect(broken).toBe(3)
    const texts = textsIn(received)
    expect([...new Set(texts)]).toEqual((await sealed()).map(({ text }) => text))
    expect(texts.length).toBeGreaterThan(new Set(texts).size)
    expect(lines.filter((line) => line.includes('is not streamed, and tried again'))).toHaveLength(1)
    expect(lines.filter((line) => line.includes('is streamed again'))).toHaveLength(1)
    expect(lines.join('')).toMatch(/"destination":"syslog:\/\/127\.0\.0\.1:\d+"/)
  })

  test('a receiver that closes before the end has not got it', async () => {
    let closing = true
    const { address, received } = await receiver(undefined, (socket, received) => {
      if (closing) return void socket.end()
      const chunks: Buffer[] = []
      socket.on('data', (chunk) => chunks.push(chunk))
      socket.on('end', () => received.push(Buffer.concat(chunks)))
    })
    const to = openDestination(address, 50)
    const { lines } = stream([to])
    await until(async () => lines.some((line) => line.includes('is not streamed')))
    expect(await positionOf(to)).toBe(0)

    closing = false
    await caughtUp(to)

    expect(textsIn(received)).toEqual((await sealed()).map(({ text }) => text))
  })

  test('one that hangs, and one where nobody listens, hold up neither sealing nor another, nor stopping', async () => {
    const hanging = await receiver(undefined, (socket) => void socket.pause())
    const gone = await receiver()
    gone.server.close()
    const path = folder()
    const [slow, dead, good] = [
      openDestination(hanging.address, 50),
      openDestination(gone.address, 50),
      openDestination(pathToFileURL(path).href, 50),
    ]
    const { lines, stop } = stream([slow, dead, good])
    await until(async () => hanging.connections.length > 0)

    for (let round = 0; round < 3; round += 1) {
      await it.write(it.acme, 3)
      await seal()
      await caughtUp(good)
    }

    expect(await positionOf(slow)).toBe(0)
    expect(await positionOf(dead)).toBe(0)
    expect(entriesIn(linesIn(path))).toEqual((await sealed()).map(({ text }) => text))
    expect(lines.some((line) => line.includes('ECONNREFUSED') && line.includes('lag_ms'))).toBe(true)
    await stop()
    const { rows } = await it.superuser.query(
      'select count(*)::int as n from app.audit_streams where held_by is not null',
    )
    expect(rows).toEqual([{ n: 0 }])
  })
})

test('each entry is streamed once, with the seal of its month, and of its count of transactions', async () => {
  const path = folder()
  const { rows } = await it.superuser.query(`select date_trunc('month', now()) + interval '40 days' as next`)
  const actorId = '01997b0e-7a2c-7436-988a-b8342b53c5e7'
  await addEntries(it.superuser, { tenantId: it.acme, actorId, count: 5, at: rows[0].next })
  await addEntries(it.superuser, { tenantId: it.acme, actorId, count: 5 })
  await seal()
  // as after a restore on a server that has counted less: numbers from ahead of here, and a row that nobody wrote here
  const ahead = `update app.audit_sealing set xact = 1`
  await it.superuser.query(
    `insert into app.audit_log (tenant_id, xact, actor_kind, action, table_name) values ($1, 999999999999, 'system', 'insert', 'restored')`,
    [it.acme],
  )
  await it.superuser.query(ahead)
  await sleep(5)
  await it.seal()
  await it.write(it.acme, 4)
  await seal()
  const to = openDestination(pathToFileURL(path).href, 20)

  stream([to])
  await caughtUp(to)

  const { rows: eras } = await it.superuser.query(
    'select count(distinct era)::int as eras, count(distinct month)::int as months from app.audit_seals',
  )
  expect(eras).toEqual([{ eras: 2, months: 2 }])
  const streamed = entriesIn(linesIn(path))
  expect(streamed).toEqual((await sealed()).map(({ text }) => text))
  expect(new Set(streamed).size).toBe(streamed.length)
  expect(streamed.filter((text) => text.includes('"table": "restored"'))).toHaveLength(1)
})

describe('of several workers', () => {
  test('one hands on at a time; another takes over when it stops, and when it is not heard of', async () => {
    const path = folder()
    const to = openDestination(pathToFileURL(path).href, 20)
    const short = { ...quick, lease: 2 }
    const [first, second] = [stream([to], short), stream([to], short)]
    await it.write(it.acme, 3)
    await seal()
    await caughtUp(to)
    await first.stop()
    await it.write(it.acme, 3)
    await seal()
    await caughtUp(to)
    await second.stop()

    // one that died while it had it
    await it.superuser.query(
      `update app.audit_streams set held_by = gen_random_uuid(), held_until = now() + interval '2 seconds' where held_by is null`,
    )
    await it.write(it.acme, 3)
    await seal()
    const before = await positionOf(to)
    stream([to], short)
    await sleep(500)
    const { rows } = await it.superuser.query(
      'select now() < min(held_until) as held from app.audit_streams where held_until is not null',
    )
    if (rows[0]?.held) expect(await positionOf(to)).toBe(before)
    await caughtUp(to)

    expect(entriesIn(linesIn(path))).toEqual((await sealed()).map(({ text }) => text))
  })
})
