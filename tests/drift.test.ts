/** What a running server does when its database is changed under it: real servers, and faults that somebody could make. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { type LawWatch, watchLaws } from '../src/drift.ts'
import { makeLogger } from '../src/log.ts'
import { faults } from './faults.ts'
import { type Answer, type Client, makeClient, type Person, signIn, testEnvironment, world } from './harness.ts'
import { startProxy } from './proxy.ts'

const it = world()

const until = async <T>(look: () => Promise<T | false | undefined> | T | false | undefined): Promise<T> => {
  for (const end = Date.now() + 60_000; Date.now() < end; await sleep(25)) {
    const found = await look()
    if (found) return found
  }
  throw new Error(`not in time: ${look}`)
}

const faultOf = (title: string): string => {
  const sql = faults.find((fault) => fault.title === title)?.sql
  if (sql === undefined) throw new Error(`there is no fault: ${title}`)
  return sql
}

/** Faults that are this database's alone, not the server's; each with what undoes it, and what the laws say of it. */
const planted: readonly { title: string; mend: string; broken: { law: string; object: string } }[] = [
  {
    title: 'no wall',
    mend: `create policy wall on app.projects as restrictive to public
             using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()))`,
    broken: { law: 'every_tenant_table_has_the_wall', object: 'app.projects' },
  },
  {
    title: 'no force',
    mend: 'alter table app.projects force row level security',
    broken: { law: 'every_table_has_row_security_enabled_and_forced', object: 'app.projects' },
  },
  {
    title: 'a grant of tenant_id',
    mend: 'revoke insert (tenant_id) on app.projects from app_api',
    broken: { law: 'no_login_role_writes_what_the_database_writes', object: 'app.projects' },
  },
  {
    title: 'an audit trigger that sleeps in replica mode',
    mend: 'alter table app.projects enable always trigger audit_update',
    broken: { law: 'every_tenant_table_is_audited', object: 'app.projects' },
  },
  {
    title: 'a runtime role that owns something',
    mend: 'drop table public.scratch',
    broken: { law: 'login_roles_own_nothing', object: 'app_worker' },
  },
  {
    title: 'a role that set itself a path, in this database',
    mend: `do $$ begin execute format('alter role app_api in database %I reset search_path', current_database()); end $$`,
    broken: { law: 'login_roles_have_their_settings_and_no_others', object: 'app_api' },
  },
]

describe('a running server', () => {
  let child: ChildProcess
  let output = ''
  let client: Client
  let person: Person

  beforeAll(async () => {
    child = spawn(process.execPath, [new URL('../src/server.ts', import.meta.url).pathname], {
      cwd: tmpdir(),
      env: {
        PATH: process.env.PATH,
        ...testEnvironment(it.database.urls),
        LOG_LEVEL: 'info',
        LAWS_INTERVAL: '100ms',
        DOCS_ENABLED: 'true',
      },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (output += chunk))
    const first = await Promise.race([once(child, 'message').then(([message]) => message), once(child, 'close')])
    expect(first, output).toBe('ready')
    const origin = await until(() => /listening on (http:\/\/[^"\s]+)/.exec(output)?.[1])
    client = makeClient(origin)
    person = await signIn(client, (headers) => makeClient(origin, headers), 'owner@acme.test')
  })
  afterAll(async () => {
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'close')
  })

  /** While `work` runs, the fault is there and the server has stopped; afterwards it serves again. */
  const withFault = async (title: string, mend: string, work: (refused: Answer) => Promise<void>): Promise<void> => {
    await until(async () => (await person.get('/projects')).statusCode === 200)
    await it.superuser.query(faultOf(title))
    try {
      const refused = await until(async () => {
        const answer = await person.get('/projects')
        return answer.statusCode !== 200 && answer
      })
      await work(refused)
    } finally {
      await it.superuser.query(mend)
    }
    const ready = () => client.get('//health/ready')
    await until(async () => (await person.get('/projects')).statusCode === 200 && (await ready()).statusCode === 200)
  }

  const alarms = (): { broken: object[]; objects: number }[] =>
    output
      .split('\n')
      .filter((line) => line.includes('"alarm":"drift"'))
      .map((line) => JSON.parse(line))

  test.each(planted)(
    'stops at: $title, and serves again by itself when it is mended',
    async ({ title, mend, broken }) => {
      const before = alarms().length

      await withFault(title, mend, async (refused) => {
        expect(refused.statusCode).toBe(503)
        expect(refused.json()).toMatchObject({ code: 'drift', status: 503, type: '/problems/drift' })
        expect((await client.get('//health/ready')).statusCode).toBe(503)
      })

      expect(alarms().length).toBeGreaterThan(before)
      expect(alarms()[before]).toMatchObject({ level: 'fatal', broken: [broken], objects: 1 })
      expect(child.exitCode).toBe(null)
    },
  )

  test('refuses every route of the API, whoever asks, and says nothing of what is wrong', async () => {
    await withFault('no force', 'alter table app.projects force row level security', async (refused) => {
      const answers = await Promise.all([
        person.post('/projects', { name: 'voyager' }),
        person.get('/audit/logs'),
        person.get('/auth/profile'),
        client.post('/auth/login', { email: 'owner@acme.test', password: 'whatever it is' }),
        client.get('/projects'),
        client.get('//health/ready'),
      ])
      for (const answer of [refused, ...answers]) {
        expect(answer.statusCode).toBe(503)
        expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/)
        expect(answer.headers['retry-after']).toBe('1')
        expect(Object.keys(answer.json()).sort()).toEqual(['code', 'detail', 'request_id', 'status', 'title', 'type'])
        expect(answer.body).not.toMatch(/projects|force|law|row/)
      }
    })
    const { rows } = await it.superuser.query(`select from app.projects where name = 'voyager'`)
    expect(rows).toEqual([])
  })

  test('still answers what stands on no tenant: health, the keys, the documentation', async () => {
    await withFault('no force', 'alter table app.projects force row level security', async () => {
      for (const path of [
        '//health/live',
        '//.well-known/jwks.json',
        '//problems/drift',
        '//api/schema',
        '//api/docs',
      ]) {
        expect((await client.get(path)).statusCode, path).toBe(200)
      }
      const health = await client.get('//health')
      expect(health.statusCode).toBe(200)
      expect(health.json()).toMatchObject({ status: 'drift', laws: { status: 'drift' }, dependencies: {} })
      expect(health.body).not.toContain('projects')
    })
    expect((await client.get('//health')).json()).toMatchObject({ status: 'ok', laws: { status: 'ok' } })
  })

  test('counts its checks and its alarms: one at once, and others from time to time', async () => {
    const laws = async () => (await client.get('//health')).json().laws
    const { checks, alarms: before, checked_at } = await laws()
    expect(checked_at).toMatch(/^\d{4}-\d\d-\d\dT.*Z$/)

    await withFault('no force', 'alter table app.projects force row level security', async () => {
      await until(async () => (await laws()).checks > checks + 25)
      const now = await laws()
      expect(now.alarms).toBeGreaterThanOrEqual(before + 2)
      expect(now.alarms - before).toBeLessThan((now.checks - checks) / 2)
      expect(now.alarms).toBe(alarms().length)
      expect(now.failures).toBe(0)
    })
  })

  test('names laws and objects in its alarm, and no value of a setting', async () => {
    const set = (what: string) =>
      it.superuser.query(
        `do $$ begin execute format('alter role app_auth in database %I ${what}', current_database()); end $$`,
      )
    const before = alarms().length
    await set(`set app.note = ''hunter2''`)
    await until(() => alarms().length > before)
    await set('reset app.note')
    await until(async () => (await client.get('//health/ready')).statusCode === 200)

    expect(alarms()[before]?.broken).toEqual([
      { law: 'login_roles_have_their_settings_and_no_others', object: 'app_auth' },
    ])
    expect(output).not.toContain('hunter2')
  })

  test('asks on one connection of its own, and makes another where that broke', async () => {
    const laws = async () => (await client.get('//health')).json().laws
    const checked = async (times: number) => {
      const { checks } = await laws()
      await until(async () => (await laws()).checks >= checks + times)
    }
    const connections = async () => {
      const { rows } = await it.superuser.query<{ pid: number }>(
        `select pid from pg_stat_activity where datname = current_database() and application_name = 'laws' and usename = 'app_api'`,
      )
      return rows.map(({ pid }) => pid)
    }
    await checked(1)
    const before = await connections()
    await checked(3)
    const later = await connections()
    await it.superuser.query('select pg_terminate_backend($1)', [before[0]])
    await checked(2)
    const after = await connections()

    expect(before).toHaveLength(1)
    expect(later).toEqual(before)
    expect(after).toHaveLength(1)
    expect(after).not.toEqual(before)
    expect((await laws()).failures).toBe(0)
  })

  test('ends while it has stopped, and leaves no connection', async () => {
    await it.superuser.query(faultOf('no force'))
    await until(async () => (await client.get('//health/ready')).statusCode === 503)
    const ended = once(child, 'close')

    child.kill('SIGTERM')
    await ended
    await it.superuser.query('alter table app.projects force row level security')

    expect(child.exitCode, output).toBe(0)
    await until(async () => {
      const { rows } = await it.superuser.query(
        `select from pg_stat_activity where datname = current_database() and application_name = 'laws'`,
      )
      return rows.length === 0
    })
  })
})

describe('a watch', () => {
  type Watched = LawWatch & { lines: string[]; changes: boolean[] }

  const watch = (options: Partial<Parameters<typeof watchLaws>[0]> = {}): Watched => {
    const lines: string[] = []
    const changes: boolean[] = []
    const sink = new Writable({ write: (chunk, _encoding, done) => done(void lines.push(String(chunk))) })
    const laws = watchLaws({
      url: it.database.urls.api,
      role: 'app_api',
      intervalMs: 50,
      log: makeLogger({ logLevel: 'debug' }, sink),
      onChange: async (drifted) => void changes.push(drifted),
      ...options,
    })
    onTestFinished(() => laws.stop())
    return Object.defineProperties({ lines, changes } as unknown as Watched, Object.getOwnPropertyDescriptors(laws))
  }

  const throughProxy = async () => {
    const url = new URL(it.database.urls.api)
    const proxy = await startProxy({ host: url.hostname, port: Number(url.port) })
    onTestFinished(() => proxy.close())
    url.host = `127.0.0.1:${proxy.port}`
    return { proxy, url: url.href }
  }
  const [force, noForce] = ['alter table app.projects force row level security', faultOf('no force')]

  test('of a database that is as it must be finds nothing', async () => {
    const laws = watch()
    await until(() => laws.counts.checks >= 3)

    expect(laws).toMatchObject({ drifted: false, changes: [], counts: { failures: 0, alarms: 0 } })
    expect(laws.lines).toEqual([])
  })

  test.each(['hang', 'cut'] as const)(
    'a check that cannot be done is no drift, and no mending: connections that %s',
    async (how) => {
      const { proxy, url } = await throughProxy()
      const laws = watch({ url, patienceMs: 1_000 })
      await until(() => laws.counts.checks >= 1)

      proxy[how]()
      await until(() => laws.counts.failures >= 2)
      expect(laws).toMatchObject({ drifted: false, changes: [] })
      proxy.pass()
      await it.superuser.query(noForce)
      await until(() => laws.drifted)
      proxy[how]()
      await it.superuser.query(force)
      const { failures } = laws.counts
      await until(() => laws.counts.failures >= failures + 2)
      expect(laws).toMatchObject({ drifted: true, changes: [true] })

      proxy.pass()
      await until(() => !laws.drifted)
      await until(() => laws.changes.length === 2)
      expect(laws.changes).toEqual([true, false])
      expect(laws.lines.join('')).toContain('the laws could not be checked')
      expect(laws.lines.join('')).not.toMatch(/postgres:\/\//)
    },
  )

  test('that stops does not wait for a check that hangs', async () => {
    const { proxy, url } = await throughProxy()
    const laws = watch({ url, patienceMs: 3_600_000 })
    await until(() => laws.counts.checks >= 1)
    proxy.hang()
    const { checks } = laws.counts
    await sleep(300) // one is being done now

    await laws.stop()

    expect(laws.counts).toMatchObject({ checks, failures: 0 })
  })

  test('a role that could walk around the wall is drift', async () => {
    const laws = watch({ url: it.database.urls.superuser })
    await until(() => laws.drifted)

    expect(laws.lines.join('')).toContain('"law":"the_role_of_a_process_has_no_power","object":"app_api"')
  })

  test('laws that cannot be asked, since what they ask is gone or hidden, are drift', async () => {
    await it.superuser.query('revoke select on pg_policy from public')
    onTestFinished(() => it.superuser.query('grant select on pg_policy to public').then(() => {}))
    const laws = watch()
    await until(() => laws.drifted)
    await it.superuser.query('grant select on pg_policy to public')
    await until(() => !laws.drifted)

    expect(laws.lines[0]).toMatch(/"law":"every_law_can_be_asked","object":"\w+"/)
  })

  test('a change that could not be followed is told again', async () => {
    const told: boolean[] = []
    const laws = watch({
      onChange: async (drifted) => {
        told.push(drifted)
        if (told.length < 3) throw new Error('the engine is away')
      },
    })
    await it.superuser.query(noForce)
    await until(() => told.length === 3)
    await it.superuser.query(force)
    await until(() => told.length === 4)

    expect(told).toEqual([true, true, true, false])
    expect(laws.lines.filter((line) => line.includes('the engine is away'))).toHaveLength(2)
  })
})
