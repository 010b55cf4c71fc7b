import { randomBytes, randomUUID } from 'node:crypto'
import { Type } from '@sinclair/typebox'
import pg from 'pg'
import { describe, expect, test } from 'vitest'
import { extendAuditLog } from '../../src/jobs/audit-partitions.ts'
import { definePlatformJob } from '../../src/jobs/define.ts'
import { forgetAttempts, forgetMails, forgetSessions } from '../../src/jobs/forget.ts'
import { expireIdempotencyKeys, visitTenantsForExpiry } from '../../src/jobs/idempotency-keys.ts'
import { expireInvitations, visitTenantsForInvitations } from '../../src/jobs/invitations.ts'
import { jobs, schedules } from '../../src/jobs/map.ts'
import { stage, until } from './stage.ts'

const it = stage()
const completed = (kind: string) =>
  until(async () => {
    const { rows } = await it.superuser.query(
      `select from pgboss.job where name = $1 having bool_and(state = 'completed') and count(*) > 0`,
      [kind],
    )
    return rows.length > 0
  })

describe('schedules', () => {
  test('are those of the map, and others go', async () => {
    const engine = await it.engine()
    await engine.createQueue('test.gone')
    await engine.schedule('test.gone', '1 1 1 1 *')

    await it.work(jobs, { schedules })

    const { rows } = await it.superuser.query('select name, cron, timezone from pgboss.schedule order by name')
    expect(rows).toEqual([
      { name: 'attempts.forget', cron: '11 5 * * *', timezone: 'UTC' },
      { name: 'audit_log.extend', cron: '17 3 * * *', timezone: 'UTC' },
      { name: 'audit_log.retire', cron: '37 4 * * *', timezone: 'UTC' },
      { name: 'files.visit', cron: '7 * * * *', timezone: 'UTC' },
      { name: 'idempotency_keys.visit', cron: '41 * * * *', timezone: 'UTC' },
      { name: 'invitations.visit', cron: '47 2 * * *', timezone: 'UTC' },
      { name: 'mails.forget', cron: '53 * * * *', timezone: 'UTC' },
      { name: 'sessions.forget', cron: '23 * * * *', timezone: 'UTC' },
      { name: 'statistics.roll_up', cron: '29 * * * *', timezone: 'UTC' },
      { name: 'statistics.visit', cron: '11 * * * *', timezone: 'UTC' },
      { name: 'tenants.erase', cron: '*/5 * * * *', timezone: 'UTC' },
    ])
  })

  test('come due once, however many workers there are, and after a time without any', async () => {
    const runs: number[] = []
    const tick = definePlatformJob({
      kind: 'test.tick',
      payload: Type.Object({}),
      run: async (_payload, { job }) => void runs.push(job.attempt),
    })
    // due an hour and a half ago, when, as it will seem, no worker was there
    const due = new Date(Date.now() - 90 * 60_000)
    const cron = `${due.getUTCMinutes()} ${due.getUTCHours()} * * *`
    const first = await it.work([tick], { schedules: [{ job: tick, cron }] })
    await first.stop(500)
    await it.superuser.query(`update pgboss.schedule set created_on = now() - interval '1 day'`)
    await it.superuser.query(`update pgboss.version set cron_on = now() - interval '3 hours'`)

    await Promise.all([1, 2, 3].map(() => it.work([tick], { schedules: [{ job: tick, cron }] })))
    await completed('test.tick')
    // several rounds more, of each worker
    const rounds = async () =>
      (await it.superuser.query('select cron_on from pgboss.version')).rows[0].cron_on.getTime()
    for (let seen = await rounds(), round = 0; round < 3; round++) {
      seen = await until(async () => (await rounds()) !== seen && rounds())
    }

    expect(runs).toEqual([1])
    const { rows } = await it.superuser.query(`select count(*)::int as n from pgboss.job where name = 'test.tick'`)
    expect(rows).toEqual([{ n: 1 }])
  })
})

test('the audit log has its partitions as soon as a worker has started', async () => {
  const { rows: last } = await it.superuser.query(
    `select max(inhrelid::regclass::text) as name from pg_inherits where inhparent = 'app.audit_log'::regclass`,
  )
  await it.superuser.query(`drop table ${last[0].name}`)
  await it.superuser.query(`delete from pgboss.job where name = 'audit_log.extend'`)

  await it.work([extendAuditLog], { schedules: schedules.filter(({ job }) => job === extendAuditLog) })
  await completed('audit_log.extend')

  const { rows } = await it.superuser.query(
    `select relrowsecurity and relforcerowsecurity as walled from pg_class where oid = to_regclass($1)`,
    [last[0].name],
  )
  expect(rows).toEqual([{ walled: true }])
})

test('sessions that ended a month ago are forgotten, all of them, and no others', async () => {
  const { rows: people } = await it.superuser.query('select id from app.users limit 1')
  const add = (name: string, age: string, count = 1) =>
    it.superuser.query(
      `insert into app.sessions (user_id, secret_hash, seed, key_id, idle_expires_at, expires_at, revoked_at)
       select $1, sha256(uuid_send(gen_random_uuid())), $2, $3,
              case when $3 = 'idle' then now() - $4::interval else now() + interval '90 days' end,
              case when $3 = 'old'  then now() - $4::interval else now() + interval '90 days' end,
              case when $3 = 'revoked' then now() - $4::interval end
         from generate_series(1, $5)`,
      [people[0].id, randomBytes(32), name, age, count],
    )
  await add('old', '31 days', 1500)
  await add('idle', '31 days')
  await add('revoked', '31 days')
  await add('live', '0')
  for (const name of ['old', 'idle', 'revoked']) await add(name, '29 days')

  const { enqueue } = await it.work([forgetSessions])
  await enqueue(forgetSessions, [{}])
  await completed('sessions.forget')

  const { rows } = await it.superuser.query(
    `select key_id, count(*)::int as n from app.sessions where key_id in ('old', 'idle', 'revoked', 'live') group by 1 order by 1`,
  )
  expect(rows).toEqual(['idle', 'live', 'old', 'revoked'].map((key_id) => ({ key_id, n: 1 })))
})

test('operators’ sessions and answers too, in as many batches as there are', async () => {
  const { rows: operators } = await it.superuser.query(
    `select app.create_operator('olga@bulkhead.test', 'Olga', 'x') as id`,
  )
  const [{ id }] = operators
  await it.superuser.query(
    `insert into app.operator_sessions (operator_id, secret_hash, seed, key_id, idle_expires_at, expires_at)
     select $1, sha256(uuid_send(gen_random_uuid())), $2, age, now() - age::interval, now() + interval '1 day'
       from (select '31 days' as age from generate_series(1, 2500) union all select '29 days' union all select '-1 day') ages`,
    [id, randomBytes(32)],
  )
  await it.superuser.query(
    `insert into app.operator_answers (operator_id, key, fingerprint, status, headers, body, expires_at)
     select $1::uuid, 'old ' || n, sha256('x'), 200, '{}'::jsonb, '', now() from generate_series(1, 1200) n
     union all select $1::uuid, 'new', sha256('x'), 200, '{}'::jsonb, '', now() + interval '1 minute'`,
    [id],
  )
  const { enqueue } = await it.work([forgetSessions])
  await enqueue(forgetSessions, [{}])
  await completed('sessions.forget')

  const { rows: sessions } = await it.superuser.query('select key_id from app.operator_sessions order by 1')
  expect(sessions.map(({ key_id }) => key_id)).toEqual(['-1 day', '29 days'])
  expect((await it.superuser.query('select key from app.operator_answers')).rows).toEqual([{ key: 'new' }])
})

test('invitations that nobody took up go a month after they have ended, in every tenant; and nothing else of its members', async () => {
  await it.superuser.query(
    `create function public.invite(tenant uuid, who text, ended interval, n int) returns void language plpgsql as $$
     begin
       perform app.seal(tenant, 'system', null, 'system', null, 'test', null);
       insert into app.memberships (tenant_id, role, status, email, token_hash, expires_at)
       select tenant, 'member', 'invited', who || i || '@example.com', sha256(uuid_send(gen_random_uuid())), now() - ended from generate_series(1, n) i;
     end $$`,
  )
  const invite = (tenant: string, who: string, ended: string, n: number) =>
    it.superuser.query('select public.invite($1, $2, $3, $4)', [tenant, who, ended, n])
  const members = async () => {
    const { rows } = await it.superuser.query(
      `select tenant_id, id from app.memberships where status <> 'invited' order by 1, 2`,
    )
    return rows
  }
  const before = await members()
  await invite(it.acme, 'old', '30 days 1 minute', 700)
  await invite(it.acme, 'ended', '29 days 23 hours', 1)
  await invite(it.globex, 'old', '60 days', 1)
  await invite(it.globex, 'waits', '-1 hour', 1)

  const { enqueue } = await it.work([visitTenantsForInvitations, expireInvitations])
  await enqueue(visitTenantsForInvitations, [{}])
  await completed('invitations.visit')
  await completed('invitations.expire')

  const { rows } = await it.superuser.query(`select email from app.memberships where status = 'invited' order by 1`)
  expect(rows.map(({ email }) => email)).toEqual(['ended1@example.com', 'waits1@example.com'])
  expect(await members()).toEqual(before)
  const { rows: audited } = await it.superuser.query(
    `select count(*)::int as n, count(distinct actor_id)::int as jobs from app.audit_log where table_name = 'memberships' and action = 'delete' group by tenant_id order by 1`,
  )
  expect(audited).toEqual([
    { n: 1, jobs: 1 },
    { n: 700, jobs: 1 },
  ])

  // whatever the worker's SQL says
  const worker = new pg.Client({ connectionString: it.database.urls.worker })
  await worker.connect()
  await worker.query('begin')
  await worker.query(`select app.enter_job($1, gen_random_uuid(), 'test')`, [it.acme])
  expect((await worker.query('delete from app.memberships')).rowCount).toBe(0)
  await worker.end()
})

test('counts of failed attempts go when they have run down: one an hour, of an address one a minute', async () => {
  await it.superuser.query(
    `insert into app.attempts (kind, slot, level, at)
     select kind, slot, 2, now() - age
       from (values ('account', 1, interval '3 hours'), ('account', 2, '1 hour'), ('device', 1, '3 hours'), ('session', 1, '1 hour'),
                    ('address', 1, '3 minutes'), ('address', 2, '1 minute')) as cases (kind, slot, age)
     union all select 'account', 100 + n, 1, now() - interval '2 hours' from generate_series(1, 12000) n`,
  )

  const { enqueue } = await it.work([forgetAttempts])
  await enqueue(forgetAttempts, [{}])
  await completed('attempts.forget')

  const { rows } = await it.superuser.query('select kind, slot from app.attempts order by 1')
  expect(rows).toEqual([
    { kind: 'account', slot: 2 },
    { kind: 'address', slot: 2 },
    { kind: 'session', slot: 1 },
  ])
})

test('mails go a while after they were dealt with, tokens after they have expired, and no others', async () => {
  const { rows: people } = await it.superuser.query('select id from app.users limit 3')
  await it.superuser.query(
    `insert into app.mails (id, kind, key_id, sealed, state, settled_at, expires_at, failure)
     select gen_random_uuid(), 'test', 'k', $1::bytea, state, case when state <> 'waiting' then now() - age end, now() - age, name
       from (values ('sent', interval '8 days', 'gone'), ('sent', '6 days', 'sent'), ('dead', '31 days', 'gone'), ('dead', '29 days', 'dead'),
                    ('void', '25 hours', 'gone'), ('void', '23 hours', 'void'), ('waiting', '31 days', 'gone'), ('waiting', '29 days', 'waiting')
            ) as cases (state, age, name)
     union all
     select gen_random_uuid(), 'test', 'k', $1, 'sent', now() - interval '8 days', now(), 'gone' from generate_series(1, 1500)`,
    [randomBytes(64)],
  )
  await it.superuser.query(
    `insert into app.person_tokens (token_hash, user_id, purpose, email, expires_at)
     select sha256(age::text::bytea), id::uuid, 'password_reset', 'ada@example.com', now() - age::interval
       from (values ($1, '25 hours'), ($2, '23 hours'), ($3, '-1 hours')) as cases (id, age)`,
    people.map(({ id }) => id),
  )

  const { enqueue } = await it.work([forgetMails])
  await enqueue(forgetMails, [{}])
  await completed('mails.forget')

  const { rows: mails } = await it.superuser.query('select failure as name from app.mails order by 1')
  expect(mails.map(({ name }) => name)).toEqual(['dead', 'sent', 'void', 'waiting'])
  const { rows: tokens } = await it.superuser.query('select user_id from app.person_tokens order by expires_at')
  expect(tokens.map(({ user_id }) => user_id)).toEqual([people[1].id, people[2].id])
})

test('idempotency keys go when they have expired, in every tenant, and each by a job of its own', async () => {
  await it.superuser.query(
    `create function public.add_keys(tenant uuid, prefix text, ends interval, n int) returns void language plpgsql as $$
     begin
       perform app.seal(tenant, 'system', null, 'system', null, 'test', null);
       insert into app.idempotency_keys (tenant_id, caller_id, key, fingerprint, status, headers, body, expires_at)
       select tenant, gen_random_uuid(), prefix || i, sha256(''), 201, '{}', '', now() + ends from generate_series(1, n) i;
     end $$`,
  )
  const add = (tenant: string, prefix: string, ends: string, n: number) =>
    it.superuser.query('select public.add_keys($1, $2, $3, $4)', [tenant, prefix, ends, n])
  await add(it.acme, 'dead', '-1 second', 1200)
  await add(it.acme, 'live', '1 hour', 2)
  await add(it.globex, 'dead', '-1 day', 1)
  await add(it.globex, 'live', '24 hours', 1)

  const { enqueue } = await it.work([visitTenantsForExpiry, expireIdempotencyKeys])
  await enqueue(visitTenantsForExpiry, [{}])
  await completed('idempotency_keys.visit')
  await completed('idempotency_keys.expire')

  const { rows } = await it.superuser.query(
    `select tenant_id, key from app.idempotency_keys order by tenant_id = $1 desc, key`,
    [it.acme],
  )
  expect(rows).toEqual([
    { tenant_id: it.acme, key: 'live1' },
    { tenant_id: it.acme, key: 'live2' },
    { tenant_id: it.globex, key: 'live1' },
  ])
  const { rows: audited } = await it.superuser.query(
    `select l.tenant_id, count(*)::int as n, count(distinct actor_id)::int as jobs, bool_and(j.data ->> 'tenant_id' = l.tenant_id::text) as own
       from app.audit_log l left join pgboss.job j on j.id = l.actor_id
      where table_name = 'idempotency_keys' and action = 'delete' group by 1 order by l.tenant_id = $1 desc`,
    [it.acme],
  )
  expect(audited).toEqual([
    { tenant_id: it.acme, n: 1200, jobs: 1, own: true },
    { tenant_id: it.globex, n: 1, jobs: 1, own: true },
  ])
})

test('a tenant that is gone before its turn costs the others nothing', async () => {
  const { enqueue } = await it.work([expireIdempotencyKeys])
  const [gone = '', there = ''] = await enqueue(expireIdempotencyKeys, [
    { tenant_id: randomUUID() },
    { tenant_id: it.acme },
  ])

  await until(async () => (await it.job(there)).state === 'completed')
  await until(async () => (await it.job(gone)).state === 'retry')

  expect(await it.job(gone)).toMatchObject({ output: { code: 'BH002' } })
})
