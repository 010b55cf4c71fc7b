import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { afterEach, describe, expect, test } from 'vitest'
import { parseNote } from '../../src/audit/checkpoint.ts'
import { filesIn } from '../../src/audit/files.ts'
import { startSealer } from '../../src/audit/sealer.ts'
import { folderSink, type Sink } from '../../src/audit/sinks.ts'
import { makePool } from '../../src/db/pool.ts'
import { makeLogger } from '../../src/log.ts'
import { until } from '../jobs/stage.ts'
import { makeSigner } from './seals.ts'
import { auditStage } from './stage.ts'

const it = auditStage()
const atEnd: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const end of atEnd.splice(0).reverse()) await end()
})

const start = (options: { sink?: Sink; url?: string; signer?: typeof it.signer } = {}) => {
  const lines: { level: string; msg: string; alarm?: string; lag_ms?: number }[] = []
  const log = makeLogger(
    { logLevel: 'info' },
    new Writable({ write: (chunk, _encoding, done) => done(void lines.push(JSON.parse(String(chunk)))) }),
  )
  const pool = makePool(options.url ?? it.database.urls.worker, {
    max: 1,
    waitMs: 2000,
    name: 'loop',
    onError: () => {},
  })
  const { signer = it.signer, sink } = options
  const sealer = startSealer({ pool, signers: [signer], intervalMs: 10, lateMs: 200, sink, log })
  atEnd.push(() => sealer.stop().then(() => pool.end()))
  return { sealer, lines }
}

const isSealed = async () => (await it.superuser.query('select app.audit_seal_lag() is null as done')).rows[0].done

describe('the sealer', () => {
  test('seals what comes, until it is stopped', async () => {
    const { sealer, lines } = start()
    await it.write(it.acme, 3)
    await until(isSealed)
    await it.write(it.globex, 3)
    await until(isSealed)
    await sealer.stop()
    await it.write(it.acme)

    expect(await isSealed()).toBe(false)
    expect((await it.verify()).findings).toEqual([])
    expect(lines).toEqual([])
  })

  test('raises an alarm, once, when entries wait for a transaction that stays open', async () => {
    const open = await it.superuser.connect()
    await open.query('begin')
    await open.query(`select pg_current_xact_id()`)
    await it.write(it.acme)
    const { lines } = start()
    await until(async () => lines.length > 0)
    for (let times = 0; times < 5; times++) await it.write(it.acme)
    await open.query('commit')
    open.release()
    await until(isSealed)

    expect(lines).toMatchObject([{ level: 'error', alarm: 'audit_seal_lag', lag_ms: expect.any(Number) }])
  })

  test('says once that it cannot, and goes on when it can again', async () => {
    await it.superuser.query('alter function app.unsealed_audit_entries(int) rename to away')
    const { lines } = start()
    await it.write(it.acme)
    await until(async () => lines.length > 0)
    await it.superuser.query('alter function app.away(int) rename to unsealed_audit_entries')
    await until(isSealed)
    await until(async () => lines.length > 1)

    expect(lines).toMatchObject([
      { level: 'error', msg: 'the audit log is not sealed' },
      { level: 'info', msg: 'the audit log is sealed again' },
    ])
  })

  test('raises an alarm when what the database knows does not fit', async () => {
    const { lines } = start({ signer: makeSigner(it.signer.id) })
    await until(async () => lines.length > 0)

    expect(lines).toMatchObject([{ alarm: 'audit_seal_broken', msg: 'the audit log is not sealed' }])
    expect(JSON.stringify(lines)).not.toContain(it.signer.privateKey.export({ format: 'jwk' }).d)
  })

  test('survives its connections', async () => {
    start()
    for (let times = 0; times < 3; times++) {
      await it.superuser.query(
        `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = 'app_worker'`,
      )
      await it.write(it.acme)
      await until(isSealed)
    }
    expect((await it.verify()).findings).toEqual([])
  })
})

describe('checkpoints outside', () => {
  const folderOf = async () => {
    const folder = await mkdtemp(join(tmpdir(), 'outside-'))
    atEnd.push(() => rm(folder, { recursive: true, force: true }))
    return folder
  }
  const keptIn = (folder: string): { tenant_id: string; batch: number; checkpoint: string }[] =>
    filesIn(folder).flatMap((file) =>
      readFileSync(file, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    )
  const sealed = async () =>
    (
      await it.superuser.query(
        'select tenant_id, batch::int, app.checkpoint_note(s) as checkpoint from app.audit_seals s order by position',
      )
    ).rows

  test('are every one, in their order, also those of before', async () => {
    const folder = await folderOf()
    await it.write(it.acme)
    await it.seal()
    start({ sink: folderSink(folder) })
    await it.write(it.globex)
    await until(isSealed)
    await until(async () => keptIn(folder).length >= (await sealed()).length)

    expect(keptIn(folder)).toEqual(await sealed())
    expect((await it.verify({ folder })).findings).toEqual([])
  })

  test('are written again after a place failed, and none is skipped', async () => {
    const folder = await folderOf()
    const sink = folderSink(folder)
    let failures = 3
    const flaky: Sink = {
      name: sink.name,
      put: (name, content) => (failures-- > 0 ? Promise.reject(new Error('full')) : sink.put(name, content)),
    }
    const { lines } = start({ sink: flaky })
    await it.write(it.acme)
    await until(async () => keptIn(folder).length >= (await sealed()).length && isSealed())

    expect(keptIn(folder)).toEqual(await sealed())
    expect(lines[0]).toMatchObject({ level: 'error', msg: 'checkpoints are not kept outside' })
  })

  test('are not written over when the database is set back and seals anew: both are there, and the fork is found', async () => {
    const folder = await folderOf()
    const first = start({ sink: folderSink(folder) })
    await it.write(it.acme, 2)
    await until(isSealed)
    await until(async () => keptIn(folder).length >= (await sealed()).length)
    await first.sealer.stop()
    const before = keptIn(folder)

    // as a backup from before the last seal has it, with what was written since then
    const last = (await sealed()).at(-1)
    await it.superuser.query(`
      begin;
      alter table app.audit_seals disable trigger append_only;
      delete from app.audit_seals where position = (select position from app.audit_sealing);
      alter table app.audit_seals enable always trigger append_only;
      update app.audit_sealing set position = position - 1, xact = pg_current_xact_id()::text::int8, sealed_to =
        (select max(to_xact) from app.audit_seals);
      update app.audit_streams set position = position - 1;
      commit`)
    const second = start({ sink: folderSink(folder) })
    await it.write(it.acme, 1)
    await until(isSealed)
    await until(async () => keptIn(folder).length > before.length)
    await second.sealer.stop()

    const { findings } = await it.verify({ folder })
    expect(keptIn(folder)).toEqual(expect.arrayContaining(before))
    expect(findings).toContainEqual(
      expect.objectContaining({ tenantId: last.tenant_id, batch: last.batch, problem: 'chain_forked' }),
    )
    for (const { checkpoint } of keptIn(folder)) expect(parseNote(checkpoint)).toBeDefined()
  })
})

describe('a folder', () => {
  const sinkOf = async () => {
    const folder = await mkdtemp(join(tmpdir(), 'sink-'))
    atEnd.push(() => rm(folder, { recursive: true, force: true }))
    return { folder, sink: folderSink(join(folder, 'made', 'by', 'it')) }
  }

  test('is made, keeps what it is given, and takes the same again', async () => {
    const { folder, sink } = await sinkOf()
    await sink.put('a/b.txt', 'content')
    await sink.put('a/b.txt', Buffer.from('content'))
    expect(readFileSync(join(folder, 'made/by/it/a/b.txt'), 'utf8')).toBe('content')
    expect(filesIn(folder)).toHaveLength(1)
  })

  test('replaces nothing', async () => {
    const { folder, sink } = await sinkOf()
    await sink.put('b.txt', 'content')
    await expect(sink.put('b.txt', 'other')).rejects.toMatchObject({ name: 'SinkConflict' })
    expect(readFileSync(join(folder, 'made/by/it/b.txt'), 'utf8')).toBe('content')
  })

  test('takes nothing beside it', async () => {
    const { sink } = await sinkOf()
    for (const name of ['../b.txt', '/etc/b.txt', '.', 'a/../../b.txt']) {
      await expect(sink.put(name, 'content')).rejects.toThrow('is not in the folder')
    }
  })

  test('leaves no drafts behind', async () => {
    const { folder, sink } = await sinkOf()
    await Promise.allSettled(Array.from({ length: 20 }, (_, n) => sink.put(`${n % 4}.txt`, `${n}`)))
    expect(readdirSync(join(folder, 'made/by/it')).sort()).toEqual(['0.txt', '1.txt', '2.txt', '3.txt'])
  })
})
