import type pg from 'pg'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { type Person, world } from '../harness.ts'
import { asSystem } from '../sessions.ts'

// How long things are good for, at the edges of it: times are moved, nobody waits.

const it = world({ env: { ACCESS_TOKEN_TTL: '2m', REFRESH_IDLE_TTL: '1h', SESSION_MAX_TTL: '3h' } })
const short = world({ env: { REFRESH_IDLE_TTL: '2h', SESSION_MAX_TTL: '30m' } })

const claimsOf = (token: string) => JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
const secretOf = (person: Person) => Buffer.from(claimsOf(person.accessToken).sid, 'base64url')
const refresh = (refresh_token: string) => it.anybody.post('/auth/token/refresh', { refresh_token })

/** The session that the person has just begun. */
const sessionOf = async (person: Person, pool = it.superuser) => {
  const { rows } = await pool.query(
    `select id, extract(epoch from idle_expires_at - refreshed_at)::float8 as idle,
            extract(epoch from expires_at - created_at)::float8 as max, idle_expires_at <= expires_at as bounded
       from app.sessions where user_id = $1 order by id desc limit 1`,
    [person.userId],
  )
  return rows[0]
}

describe('ACCESS_TOKEN_TTL', () => {
  afterEach(() => {
    vi.useRealTimers()
  })

  test('an access token is good until the millisecond before its end, on every route', async () => {
    const person = await it.as('member', 'acme')
    const { iat, exp } = claimsOf(person.accessToken)
    expect(exp - iat).toBe(120)
    const ask = async () => {
      const verified = await it.anybody.post('/auth/token/verify', { token: person.accessToken })
      const asked = await Promise.all(['/projects', '/auth/profile'].map((path) => person.get(path)))
      return [...asked.map(({ statusCode }) => statusCode), verified.json().active]
    }

    vi.useFakeTimers({ toFake: ['Date'] })
    vi.setSystemTime(exp * 1_000 - 1)
    expect(await ask()).toEqual([200, 200, true])
    vi.setSystemTime(exp * 1_000)
    expect(await ask()).toEqual([401, 401, false])
  })

  test('expires_in says so', async () => {
    const person = await it.as('member', 'acme')
    expect((await refresh(person.refreshToken)).json().expires_in).toBe(120)
  })
})

describe('REFRESH_IDLE_TTL and SESSION_MAX_TTL', () => {
  test('a session ends after the one unless it is refreshed, and after the other in any case', async () => {
    const person = await it.as('member', 'acme')
    expect(await sessionOf(person)).toMatchObject({ idle: 3_600, max: 10_800, bounded: true })
    await refresh(person.refreshToken)
    expect(await sessionOf(person)).toMatchObject({ max: 10_800, bounded: true })
    const { idle } = await sessionOf(person)
    expect(idle).toBeCloseTo(3_600, 1)
  })

  test('a refresh does not carry it beyond its end', async () => {
    const person = await it.as('member', 'acme')
    const { id } = await sessionOf(person)
    await it.superuser.query(`update app.sessions set expires_at = now() + interval '59 minutes' where id = $1`, [id])
    await refresh(person.refreshToken)
    const { rows } = await it.superuser.query(
      'select idle_expires_at = expires_at as at_its_end from app.sessions where id = $1',
      [id],
    )
    expect(rows).toEqual([{ at_its_end: true }])
  })

  test('the shorter of the two counts', async () => {
    const person = await short.as('member', 'acme')
    expect(await sessionOf(person, short.superuser)).toMatchObject({ idle: 1_800, max: 1_800 })
  })

  /** In one transaction time stands still, so that the edge can be met to the microsecond. */
  const standingStill = async <T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> => {
    const client = await it.superuser.connect()
    try {
      await client.query('begin')
      return await work(client)
    } finally {
      await client.query('rollback')
      client.release()
    }
  }

  test.each(['idle_expires_at', 'expires_at'])(
    '%s: the last microsecond is inside, the next is not',
    async (column) => {
      const person = await it.as('member', 'acme')
      const { id } = await sessionOf(person)
      const at = (interval: string) =>
        standingStill(async (client) => {
          await client.query(`update app.sessions set ${column} = now() + $2::interval where id = $1`, [id, interval])
          const { rows } = await client.query('select user_id from app.find_profile($1)', [secretOf(person)])
          const { rows: seeds } = await client.query(
            'select seed is not null as found from app.find_session_seed($1)',
            [id],
          )
          const entered = await client
            .query(`select app.enter($1, $2, null, 'projects:read', 'edge', '127.0.0.1')`, [
              secretOf(person),
              person.tenantId,
            ])
            .then(
              () => 'entered',
              ({ code }) => code,
            )
          return [rows[0]?.user_id ?? null, seeds[0]?.found ?? false, entered]
        })

      expect(await at('1 microsecond')).toEqual([person.userId, true, 'entered'])
      expect(await at('0')).toEqual([null, false, 'BH001'])
    },
  )

  test.each(['idle_expires_at', 'expires_at'])('%s: a refresh that comes after it is refused', async (column) => {
    const verdict = async (interval: string) => {
      const person = await it.as('member', 'acme')
      const { id } = await sessionOf(person)
      const set = `update app.sessions set ${column} = clock_timestamp() + $2::interval where id = $1`
      await it.superuser.query(set, [id, interval])
      return (await refresh(person.refreshToken)).statusCode
    }
    expect(await verdict('1 minute')).toBe(200)
    expect(await verdict('0')).toBe(401)
  })

  test('one that was waiting for a lock when its session ended is refused', async () => {
    const person = await it.as('member', 'acme')
    const { id } = await sessionOf(person)
    const other = await it.superuser.connect()
    await other.query('begin')
    await other.query('select from app.sessions where id = $1 for update', [id])
    const waiting = refresh(person.refreshToken)
    await vi.waitUntil(
      async () => {
        const { rows } = await it.superuser.query(
          `select from pg_stat_activity where datname = current_database() and usename = 'app_auth' and wait_event_type = 'Lock'`,
        )
        return rows.length > 0
      },
      { timeout: 10_000 },
    )
    await other.query('update app.sessions set expires_at = clock_timestamp() where id = $1', [id])
    await other.query('commit')
    other.release()

    expect((await waiting).statusCode).toBe(401)
  })
})

describe('what a tenant asks beyond that', () => {
  test.each([
    ['session_max_seconds', `created_at = now() - interval '1 hour'`],
    ['session_idle_seconds', `refreshed_at = now() - interval '1 hour'`],
    ['session_idle_seconds', `longest_idle = interval '1 hour'`],
  ])('%s: the last microsecond is inside, the next is not (%s)', async (rule, past) => {
    const person = await it.as('owner', 'globex')
    const { id } = await sessionOf(person)
    const set = (seconds: number | null) =>
      asSystem(it.superuser, person.tenantId, `update app.tenants set ${rule} = $1 where slug = 'globex'`, [seconds])
    await set(3_600)
    const later = async (interval: string) => {
      const client = await it.superuser.connect()
      try {
        await client.query('begin')
        const [column, value] = past.split(' = ')
        const moved = column === 'longest_idle' ? `${value} - $2::interval` : `${value} + $2::interval`
        await client.query(`update app.sessions set ${column} = ${moved} where id = $1`, [id, interval])
        return await client
          .query(`select app.enter($1, $2, null, 'projects:read', 'edge', '127.0.0.1')`, [
            secretOf(person),
            person.tenantId,
          ])
          .then(
            () => 'entered',
            ({ code }) => code,
          )
      } finally {
        await client.query('rollback')
        client.release()
      }
    }
    expect(await later('1 microsecond')).toBe('entered')
    expect(await later('0')).toBe('BH021')
    await set(null)
  })
})
