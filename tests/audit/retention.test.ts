import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import pg from 'pg'
import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { openDestination } from '../../src/audit/destinations.ts'
import { retireOldestMonth } from '../../src/audit/retention.ts'
import { sealRetirement } from '../../src/audit/sealer.ts'
import { startStreams } from '../../src/audit/stream.ts'
import { retireAuditLog } from '../../src/jobs/audit-retention.ts'
import { startRunner } from '../../src/jobs/runner.ts'
import { makeLogger } from '../../src/log.ts'
import { addEntries, settled } from '../audit-entries.ts'
import { quick } from '../jobs/kinds.ts'
import { until } from '../jobs/stage.ts'
import { auditStage } from './stage.ts'

const it = auditStage()
const actorId = randomUUID()

/** `2025-03` and the middle of it, so many months ago. */
const monthsAgo = (n: number): { month: string; middle: string } => {
  const now = new Date()
  const middle = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - n, 15))
  return { month: middle.toISOString().slice(0, 7), middle: middle.toISOString() }
}

/** Each younger than the one before, as time goes. */
let next = 60

/** The partition of a month of the past, with entries of these tenants, sealed. */
const past = async (tenants: string[]): Promise<string> => {
  next -= 1
  const { month, middle } = monthsAgo(next)
  await it.superuser.query('select app.add_audit_month($1)', [middle])
  for (const tenantId of tenants) await addEntries(it.superuser, { tenantId, actorId, count: 20, at: middle })
  await it.seal()
  return month
}

const months = async (): Promise<string[]> => {
  const { rows } = await it.superuser.query<{ month: string }>(
    `select replace(substr(c.relname, 11), '_', '-') as month from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent = 'app.audit_log'::regclass order by 1`,
  )
  return rows.map(({ month }) => month)
}

const countOf = async (month: string): Promise<number> => {
  const { rows } = await it.superuser.query(
    'select count(*)::int as n from app.audit_log l where app.audit_month(l.id) = $1',
    [month],
  )
  return rows[0].n
}

const retire = () => retireOldestMonth(it.worker, it.signer)

const cli = (...args: string[]) =>
  new Promise<{ code: number | string | null | undefined; stdout: string; stderr: string }>((done) => {
    const file = new URL('../../src/cli.ts', import.meta.url).pathname
    const env = { DATABASE_OWNER_URL: it.database.urls.owner }
    execFile(process.execPath, [file, 'audit', ...args], { env, cwd: tmpdir() }, (error, stdout, stderr) => {
      done({ code: error ? error.code : 0, stdout, stderr })
    })
  })

const setRetention = async (days: number | null, slugs = ['acme', 'globex']) => {
  for (const slug of slugs) await it.superuser.query('select app.set_audit_retention($1, $2)', [slug, days])
}
const setHold = (slug: string, held: boolean) =>
  it.superuser.query('select app.set_legal_hold($1, $2, $3)', [slug, held, 'a lawsuit'])

const nothingIsWrong = async () => expect((await it.verify()).findings).toEqual([])

beforeAll(() => settled(it.superuser))

// each test begins with no month but this one and those ahead
beforeEach(async () => {
  await setRetention(30)
  await setHold('acme', false)
  await setHold('globex', false)
  await it.superuser.query('delete from app.audit_streams')
  await it.seal()
  while ((await retire()).kept === null);
  expect((await months())[0]).toBe(monthsAgo(0).month)
})

describe('a month goes', () => {
  test('when it is sealed, and every tenant with entries in it may let them go: its chains say so, signed', async () => {
    const month = await past([it.acme, it.globex])
    const before = await it.verify()
    await setRetention(100)

    expect(await retire()).toEqual({ month, kept: null })

    expect(await months()).not.toContain(month)
    expect(await countOf(month)).toBe(0)
    const after = await it.verify()
    expect(after.findings).toEqual([])
    expect(after.retired).toBe(before.retired + 40)
    const { rows } = await it.superuser.query(
      `select tenant_id from app.audit_seals where kind = 'retired' and month = $1 order by tenant_id = $2 desc`,
      [month, it.acme],
    )
    expect(rows).toEqual([{ tenant_id: it.acme }, { tenant_id: it.globex }])
    await it.write(it.acme, 2)
    await it.seal()
    await nothingIsWrong()
  })

  test('the oldest first, one after the other, and no younger one before', async () => {
    const [older, younger] = [await past([it.acme]), await past([it.globex])]
    await setRetention(null, ['acme'])

    expect(await retire()).toEqual({ month: older, kept: 'tenant acme keeps its log for ever' })
    // also with everything that it takes
    const client = await it.worker.connect()
    await client.query('begin')
    await sealRetirement(client, it.signer, younger)
    await expect(client.query('select app.drop_audit_month($1)', [younger])).rejects.toMatchObject({
      code: 'BH013',
      message: expect.stringMatching(/there is an older one/),
    })
    client.release(true)

    await setRetention(30)
    expect(await retire()).toEqual({ month: older, kept: null })
    expect(await retire()).toEqual({ month: younger, kept: null })
    await nothingIsWrong()
  })

  test('by the daily job, and with nobody’s help', async () => {
    const [older, younger] = [await past([it.acme, it.globex]), await past([it.acme])]
    const runner = await startRunner({
      jobsUrl: it.database.urls.jobs,
      pool: it.worker,
      jobs: [retireAuditLog],
      schedules: [],
      log: makeLogger({ logLevel: 'silent' }),
      signer: it.signer,
      pace: quick,
    })
    onTestFinished(() => runner.stop(1_000))

    await runner.enqueue(retireAuditLog, [{}])
    await until(async () => !(await months()).includes(younger))

    expect(await months()).not.toContain(older)
    await nothingIsWrong()
  })
})

describe('a month stays', () => {
  const kept = async (month: string, why: RegExp) => {
    const seals = async () => (await it.superuser.query('select count(*)::int as n from app.audit_seals')).rows[0].n
    const [entries, sealed] = [await countOf(month), await seals()]

    expect(await retire()).toEqual({ month, kept: expect.stringMatching(why) })
    await expect(it.worker.query('select app.drop_audit_month($1)', [month])).rejects.toMatchObject({
      code: 'BH013',
      message: expect.stringMatching(why),
    })

    expect(await countOf(month)).toBe(entries)
    expect(entries).toBeGreaterThan(0)
    expect(await seals()).toBe(sealed)
  }

  test('while one tenant keeps its log for longer than the others', async () => {
    const month = await past([it.acme, it.globex])
    await setRetention(36_500, ['globex'])
    await kept(month, /tenant globex keeps its log for 36500 days/)
  })

  test('for ever, unless somebody has said how long', async () => {
    const month = await past([it.acme])
    await setRetention(null, ['acme'])
    await kept(month, /tenant acme keeps its log for ever/)
  })

  test('while a tenant is on legal hold, and goes when the hold ends', async () => {
    const month = await past([it.acme, it.globex])
    await setHold('globex', true)
    await kept(month, /tenant globex is on legal hold/)

    await setHold('globex', false)
    expect(await retire()).toEqual({ month, kept: null })
  })

  test('a tenant without entries in it keeps nothing', async () => {
    const month = await past([it.acme])
    await setHold('globex', true)
    await setRetention(null, ['globex'])
    expect(await retire()).toEqual({ month, kept: null })
  })

  test('while an entry in it is not sealed', async () => {
    const month = await past([it.acme])
    await addEntries(it.superuser, { tenantId: it.acme, actorId, count: 1, at: `${month}-15` })
    await kept(month, /it is not sealed/)
    await it.seal()
    expect(await retire()).toEqual({ month, kept: null })
  })

  test('when its tenant is gone, since nobody has said how long such a log is kept', async () => {
    const month = await past([it.acme])
    await addEntries(it.superuser, { tenantId: randomUUID(), actorId, count: 1, at: `${month}-15` })
    await it.seal()
    await kept(month, /a tenant that is gone/)
    // out of the way of the other tests
    await it.superuser.query(`alter table audit.audit_log_${month.replace('-', '_')} disable trigger all`)
    await it.superuser.query(
      `delete from app.audit_log where id in (select id from app.audit_log l where app.audit_month(l.id) = $1) and tenant_id not in ($2, $3)`,
      [month, it.acme, it.globex],
    )
  })

  test('while a stream has not had it, unless that has not been heard of for a week', async () => {
    const month = await past([it.acme])
    const folder = mkdtempSync(join(tmpdir(), 'bulkhead-retention-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    await it.superuser.query(
      `insert into app.audit_streams (name, position, held_until) values ('entries behind', 0, now()) on conflict (name) do update set held_until = now()`,
    )
    await kept(month, /a stream has not had it yet/)
    await it.superuser.query(
      `update app.audit_streams set held_until = now() - interval '8 days' where name = 'entries behind'`,
    )

    const streams = startStreams({
      pool: it.worker,
      destinations: [openDestination(pathToFileURL(folder).href, 20)],
      log: makeLogger({ logLevel: 'silent' }),
    })
    onTestFinished(() => streams.stop())
    // a stream that begins between the question and the drop keeps the month once more
    await until(() =>
      retire().then(
        ({ kept }) => kept === null,
        (error) => {
          if (error.code !== 'BH013') throw error
          return false
        },
      ),
    )
    expect(await months()).not.toContain(month)
  })

  test('this month, and what no chain says the end of, whoever asks', async () => {
    const { month } = monthsAgo(0)
    await kept(month, /it is not over/)

    const old = await past([it.acme])
    // everything is as it should be, but for the seals
    await expect(it.worker.query('select app.drop_audit_month($1)', [old])).rejects.toMatchObject({
      code: 'BH013',
      message: expect.stringMatching(/a chain does not say that it ends/),
    })
    for (const bad of ['2001-01', 'x', '', `${old}"; drop table app.users; --`]) {
      await expect(it.worker.query('select app.drop_audit_month($1)', [bad]), bad).rejects.toThrow()
    }
    expect(await countOf(old)).toBe(20)
  })

  test('for a worker without the role’s grants: nobody else may ask', async () => {
    for (const role of ['app_api', 'app_auth', 'app_operator', 'app_auditor', 'app_jobs']) {
      const { rows } = await it.superuser.query(
        `select has_function_privilege($1, 'app.drop_audit_month(text)', 'execute') as may`,
        [role],
      )
      expect(rows, role).toEqual([{ may: false }])
    }
  })
})

test('whoever writes keeps us out for no longer than a second, and is kept out for no longer; nothing is half done', async () => {
  const month = await past([it.acme])
  const writer = new pg.Client({ connectionString: it.database.urls.superuser })
  await writer.connect()
  onTestFinished(() => writer.end())
  await writer.query('begin')
  await writer.query(`select app.seal($1, 'system', null, 'system', null, 'test', null)`, [it.acme])
  await writer.query(`insert into app.projects (name) values ('open while a month goes')`)
  const seals = async () => (await it.superuser.query(`select count(*)::int as n from app.audit_seals`)).rows[0].n
  const before = await seals()

  const refused = retire()
  const [write] = await Promise.allSettled([it.write(it.globex, 1), refused.catch(() => {})])
  await expect(refused).rejects.toMatchObject({ code: '55P03' })

  expect(write.status).toBe('fulfilled')
  expect(await countOf(month)).toBe(20)
  expect(await seals()).toBe(before)
  // so nobody who waits for us runs into a limit of their own
  const { rows: limits } = await it.superuser.query(
    `select (select option from pg_proc, unnest(proconfig) option where oid = 'app.drop_audit_month(text)'::regprocedure and option like 'lock_timeout=%') as ours,
            (select option from pg_roles, unnest(rolconfig) option where rolname = 'app_api' and option like 'lock_timeout=%') as theirs`,
  )
  expect(limits).toEqual([{ ours: 'lock_timeout=1s', theirs: 'lock_timeout=2s' }])
  await writer.query('commit')
  await it.seal()
  expect(await retire()).toEqual({ month, kept: null })
  await nothingIsWrong()
})

describe('on the command line', () => {
  const tenantRow = async (slug: string) => {
    const { rows } = await it.superuser.query(
      'select audit_retention_days as days, legal_hold_reason as reason, legal_hold_since is not null as held from app.tenants where slug = $1',
      [slug],
    )
    return rows[0]
  }

  test('audit retention: how long; in the tenant’s log and in the security log', async () => {
    expect(await cli('retention', '--tenant', 'acme', '--days', '400')).toMatchObject({
      code: 0,
      stdout: 'the audit log of acme is kept for 400 days\n',
    })
    expect(await tenantRow('acme')).toMatchObject({ days: 400 })
    expect(await cli('retention', '--tenant', 'acme', '--days', 'forever')).toMatchObject({ code: 0 })
    expect(await tenantRow('acme')).toMatchObject({ days: null })

    const { rows } = await it.superuser.query(
      `select actor_kind, request_id, new_row -> 'audit_retention_days' as days from app.audit_log
        where tenant_id = $1 and table_name = 'tenants' and action = 'update' order by id desc limit 2`,
      [it.acme],
    )
    expect(rows).toEqual([
      { actor_kind: 'system', request_id: 'audit retention', days: null },
      { actor_kind: 'system', request_id: 'audit retention', days: 400 },
    ])
    const { rows: events } = await it.superuser.query(
      `select detail -> 'days' as days from app.security_log where event = 'audit_retention_set' and about_tenant_id = $1 order by at desc limit 2`,
      [it.acme],
    )
    expect(events).toEqual([{ days: null }, { days: 400 }])
  })

  test('audit hold and release: with a reason each', async () => {
    expect(await cli('hold', '--tenant', 'acme', '--reason', 'case 12/26')).toMatchObject({
      code: 0,
      stdout: 'acme is on legal hold\n',
    })
    expect(await tenantRow('acme')).toMatchObject({ held: true, reason: 'case 12/26' })
    expect(await cli('release', '--tenant', 'acme', '--reason', 'case closed')).toMatchObject({
      code: 0,
      stdout: 'acme is on legal hold no longer\n',
    })
    expect(await cli('release', '--tenant', 'acme', '--reason', 'case closed twice')).toMatchObject({
      code: 0,
      stdout: 'acme was not on legal hold: nothing was changed\n',
    })
    const ends = `select from app.security_log where detail ->> 'reason' ^@ 'case closed'`
    expect((await it.superuser.query(ends)).rowCount).toBe(1)
    expect(await tenantRow('acme')).toMatchObject({ held: false, reason: null })

    const { rows } = await it.superuser.query(
      `select event, detail ->> 'reason' as reason from app.security_log
        where event in ('legal_hold_set', 'legal_hold_released') and about_tenant_id = $1 order by at desc limit 2`,
      [it.acme],
    )
    expect(rows).toEqual([
      { event: 'legal_hold_released', reason: 'case closed' },
      { event: 'legal_hold_set', reason: 'case 12/26' },
    ])
  })

  test('nobody in what is on hold is erased, until it ends', async () => {
    const { rows } = await it.superuser.query(
      `select u.id, u.email from app.users u where u.email = 'member@globex.test'`,
    )
    const [{ id, email }] = rows
    await setHold('globex', true)
    expect(await cli('forget', '--person', email, '--reason', 'asked to')).toMatchObject({
      code: 1,
      stderr: 'this person is in what is on legal hold, of globex\n',
    })
    // somebody who only acted there, and is a member no longer
    await past([it.globex])
    expect(await cli('forget', '--person', actorId, '--reason', 'asked to')).toMatchObject({ code: 1 })
    expect(await cli('forget', '--person', 'member@acme.test', '--reason', 'asked to')).toMatchObject({ code: 0 })
    await setHold('globex', false)

    expect(await cli('forget', '--person', id, '--reason', 'asked to')).toMatchObject({ code: 0 })
  })

  test.each([
    [['retention', '--tenant', 'acme'], 2, 'audit retention needs --tenant and --days\n'],
    [['retention', '--tenant', 'acme', '--days', 'x'], 2, '--days is a number, or forever\n'],
    [
      ['retention', '--tenant', 'acme', '--days', '29'],
      1,
      'an audit log is kept for 30 to 36500 days, and not for 29\n',
    ],
    [
      ['hold', '--tenant', 'acme', '--reason', 'x'.repeat(1001)],
      1,
      'a legal hold and its end need a reason, of 1000 characters at most\n',
    ],
    [['retention', '--tenant', 'nobody', '--days', '90'], 1, 'there is no tenant nobody\n'],
    [['hold', '--tenant', 'acme', '--reason', ''], 2, 'audit hold needs --tenant and --reason\n'],
    [['release', '--tenant', 'nobody', '--reason', 'x'], 1, 'there is no tenant nobody\n'],
  ])('%j', async (args, code, stderr) => {
    expect(await cli(...args)).toMatchObject({ code, stderr })
  })
})
