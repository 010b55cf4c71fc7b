import { Writable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { openDestination, openSink } from '../../src/audit/destinations.ts'
import { SinkConflict } from '../../src/audit/sinks.ts'
import { type Destination, startStreams } from '../../src/audit/stream.ts'
import { makeLogger } from '../../src/log.ts'
import { until } from '../jobs/stage.ts'
import { credentials, region, type S3Server, startS3 } from '../s3-server.ts'
import { auditStage } from './stage.ts'

const it = auditStage()
let s3: S3Server

beforeAll(async () => {
  s3 = await startS3()
  Object.assign(process.env, environment)
})
afterAll(async () => {
  for (const name of Object.keys(environment)) delete process.env[name]
  await s3.close()
})

/** As a deployment gives them to AWS's SDK. */
const environment = {
  AWS_ACCESS_KEY_ID: credentials.accessKeyId,
  AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
  AWS_CONFIG_FILE: '/nonexistent',
  AWS_SHARED_CREDENTIALS_FILE: '/nonexistent',
  AWS_EC2_METADATA_DISABLED: 'true',
}

const address = (path: string) => `s3://siem${path}?region=${region}&endpoint=${s3.endpoint}`

const stream = (destination: Destination) => {
  const lines: string[] = []
  const sink = new Writable({ write: (chunk, _encoding, done) => done(void lines.push(String(chunk))) })
  const log = makeLogger({ logLevel: 'debug' }, sink)
  const pace = { lease: 30, firstWaitMs: 50, longestWaitMs: 200 }
  const streams = startStreams({ pool: it.worker, destinations: [destination], log, pace })
  onTestFinished(() => streams.stop())
  return { lines, stop: streams.stop }
}

const caughtUp = ({ name }: Destination) =>
  until(async () => {
    const { rows } = await it.superuser.query(
      `select coalesce((select position from app.audit_streams where name = 'entries ' || left(encode(sha256($1), 'hex'), 16)), 0)
              = (select max(position) from app.audit_seals) as done`,
      [Buffer.from(name)],
    )
    return rows[0].done
  })

const entriesUnder = (prefix: string): string[] =>
  [...s3.objects]
    .filter(([key]) => key.startsWith(prefix))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([, bytes]) => bytes.toString().split('\n'))
    .flatMap((line) => /"entry": (.*)\}$/.exec(line)?.[1] ?? [])

const sealed = async (): Promise<string[]> => {
  const { rows } = await it.superuser.query(
    `select app.audit_entry(e) as text from app.audit_seals s
       join app.audit_log e on e.tenant_id = s.tenant_id and e.xact >= s.from_xact and e.xact < s.to_xact order by s.position, e.xact, e.id`,
  )
  return rows.map(({ text }) => text)
}

describe('a stream into a bucket', () => {
  test('has everything, in order, under the prefix, in objects that are whole', async () => {
    await it.write(it.acme, 20)
    await it.seal()
    const to = openDestination(address('/audit/été'), 20)
    stream(to)
    await caughtUp(to)
    await it.write(it.globex, 5)
    await it.seal()
    await caughtUp(to)

    expect(entriesUnder('/siem/audit/été/')).toEqual(await sealed())
    for (const [key, bytes] of s3.objects) {
      expect(key).toMatch(/^\/siem\/audit\/été\/\d{4}-\d\d-\d\d\/\d{16}-\d{6}-[0-9a-f]{16}\.ndjson$/)
      expect(bytes.toString().endsWith('\n')).toBe(true)
    }
    expect(s3.refused).toEqual([])
  })

  test('waits for a bucket that is busy, and loses nothing', async () => {
    s3.busy = true
    const to = openDestination(address('/busy'), 20)
    const { lines } = stream(to)
    await until(async () => lines.some((line) => line.includes('is not streamed')))
    expect(entriesUnder('/siem/busy/')).toEqual([])

    s3.busy = false
    await caughtUp(to)

    expect(entriesUnder('/siem/busy/')).toEqual(await sealed())
  })

  test('is refused with another key, which stands in no line of the log', async () => {
    const secret = 'another+secret+that+is+wrong+and+nobodys'
    process.env.AWS_SECRET_ACCESS_KEY = secret
    onTestFinished(() => {
      process.env.AWS_SECRET_ACCESS_KEY = credentials.secretAccessKey
    })
    const to = openDestination(address('/refused'), 20)

    const { lines, stop } = stream(to)
    await until(async () => lines.some((line) => line.includes('SignatureDoesNotMatch')))
    await stop()

    expect(entriesUnder('/siem/refused/')).toEqual([])
    expect(lines.join('')).not.toContain(secret)
    expect(lines.join('')).toContain('"destination":"s3://siem/refused"')
  })
})

test('an object is written once: the same again changes nothing, something else is refused', async () => {
  const sink = openSink(address('/checkpoints/'))

  await sink.put('2026-03-01/1.ndjson', 'one')
  await sink.put('2026-03-01/1.ndjson', Buffer.from('one'))
  await expect(sink.put('2026-03-01/1.ndjson', 'two')).rejects.toThrow(SinkConflict)

  expect(s3.objects.get('/siem/checkpoints/2026-03-01/1.ndjson')?.toString()).toBe('one')
  expect(sink.name).toBe('s3://siem/checkpoints')
})
