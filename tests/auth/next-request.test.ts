import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { type ApiProcess, startApis } from '../api-processes.ts'
import { type Answer, type Client, type Person, signIn, world } from '../harness.ts'
import { type FaultyProxy, startProxy } from '../proxy.ts'
import { describeWithRedis } from '../servers.ts'
import { asSystem } from '../sessions.ts'

// What is taken away counts from the next request on: in three processes of the API, of which one was asked to take it
// away, or none, and each of which has just let the same caller in.

const it = world()
const verdict = (answer: Answer) => `${answer.statusCode} ${answer.statusCode < 400 ? 'ok' : answer.json().code}`

const refusals = (name: string, redisUrl: () => string | undefined, meanwhile: () => Promise<void> = async () => {}) =>
  describe(name, () => {
    let processes: ApiProcess[]
    /** The first is asked to take away, the others are not. */
    let first: Client
    let clientAt: (headers: Record<string, string>) => Client[]

    beforeAll(async () => {
      const url = redisUrl()
      processes = await startApis(it.database.urls, 3, url === undefined ? {} : { REDIS_URL: url })
      clientAt = (headers) => processes.map((process) => process.client(headers))
      const [asked] = clientAt({})
      if (!asked) throw new Error('no process')
      first = asked
      await meanwhile()
    })
    afterAll(() => Promise.all((processes ?? []).map((process) => process.stop())))

    type Subject = { person: Person; owner: Person; tenantId: string; everywhere: Client[] }

    const register = async (): Promise<Person> => {
      const email = `${randomUUID()}@example.com`
      const body = { email, password: demoPassword, name: 'Ada', tenant_name: `Of ${email}` }
      const registered = await first.post('/auth/register', body)
      expect(registered.statusCode, registered.body).toBe(201)
      return signIn(first, (headers) => clientAt(headers as Record<string, string>)[0] as Client, email)
    }

    /** A manager in a tenant of somebody else's, let in by all three. */
    const subject = async (): Promise<Subject> => {
      const [owner, person] = [await register(), await register()]
      const { tenantId } = owner
      await asSystem(it.superuser, tenantId, `insert into app.memberships (user_id, role) values ($1, 'manager')`, [
        person.userId,
      ])
      const chosen = await person.post('/auth/switch-tenant', { tenant_id: tenantId })
      const everywhere = clientAt({ authorization: `Bearer ${chosen.json().access_token}` })
      await all(everywhere, '200 ok')
      return { person, owner, tenantId, everywhere }
    }

    const all = async (clients: readonly Client[], expected: string, path = '/projects') => {
      const answers = await Promise.all(clients.map((client) => client.get(path)))
      expect(answers.map(verdict)).toEqual(answers.map(() => expected))
    }

    /** The member as the tenant's owner has them, changed; null to remove them. */
    const member = (change: object | null) => async (s: Subject) => {
      const { data } = (await s.owner.get('/users')).json()
      const { id } = data.find(({ email }: { email: string }) => email === s.person.email)
      expectOk(await (change ? s.owner.patch(`/users/${id}`, change) : s.owner.delete(`/users/${id}`)))
    }
    const expectOk = (answer: Answer) => expect(answer.statusCode, answer.body).toBeLessThan(300)

    test.each<[string, string, (s: Subject) => Promise<void>]>([
      ['401 unauthenticated', 'logout', async ({ person }) => expectOk(await person.post('/auth/logout', {}))],
      [
        '401 unauthenticated',
        'logout by the refresh token',
        async ({ person }) => expectOk(await first.post('/auth/logout', { refresh_token: person.refreshToken })),
      ],
      [
        '401 unauthenticated',
        'logout everywhere, elsewhere',
        async ({ person }) => {
          const other = await signIn(
            first,
            (headers) => clientAt(headers as Record<string, string>)[0] as Client,
            person.email,
          )
          expectOk(await other.post('/auth/logout', { everywhere: true }))
        },
      ],
      [
        '401 unauthenticated',
        'a session that its person ends',
        async ({ person }) => {
          const { data } = (await person.get('/auth/sessions')).json()
          const current = data.find((session: { current: boolean }) => session.current)
          expectOk(await person.delete(`/auth/sessions/${current.id}`))
        },
      ],
      [
        '401 unauthenticated',
        'a change of password, elsewhere',
        async ({ person }) => {
          const other = await signIn(
            first,
            (headers) => clientAt(headers as Record<string, string>)[0] as Client,
            person.email,
          )
          const body = { current_password: demoPassword, new_password: 'a different horse altogether' }
          expectOk(await other.post('/auth/password/change', body))
        },
      ],
      [
        '401 unauthenticated',
        'a refresh token that was stolen',
        async ({ person }) => {
          let token = person.refreshToken
          for (let i = 0; i < 2; i++) {
            token = (await first.post('/auth/token/refresh', { refresh_token: token })).json().refresh_token
          }
          const again = await first.post('/auth/token/refresh', { refresh_token: person.refreshToken })
          expect(again.statusCode).toBe(401)
        },
      ],
      [
        '401 unauthenticated',
        'a person who is deactivated',
        async ({ person }) => {
          await it.superuser.query(`update app.users set status = 'deactivated' where id = $1`, [person.userId])
        },
      ],
      ['403 not_a_member', 'a member who is removed', member(null)],
      ['403 not_a_member', 'a member who is deactivated', member({ status: 'deactivated' })],
      [
        '403 tenant_suspended',
        'a tenant that is suspended',
        ({ tenantId }) =>
          asSystem(it.superuser, tenantId, `update app.tenants set status = 'suspended' where tenant_id = $1`, [
            tenantId,
          ]),
      ],
      [
        '401 session_expired',
        'a tenant that asks for younger sessions',
        async ({ person, owner }) => {
          await it.superuser.query(
            `update app.sessions set created_at = created_at - interval '10 minutes' where user_id = $1`,
            [person.userId],
          )
          expectOk(await owner.patch('/tenant', { security: { session_max_seconds: 600 } }))
        },
      ],
      [
        '403 second_factor_required',
        'a tenant that asks for a second factor',
        async ({ owner }) => {
          await it.superuser.query('update app.sessions set mfa_at = now() where user_id = $1', [owner.userId])
          expectOk(await owner.patch('/tenant', { security: { mfa_required: true } }))
        },
      ],
      [
        '403 network_not_allowed',
        'a tenant that is entered from elsewhere only',
        ({ tenantId }) =>
          asSystem(
            it.superuser,
            tenantId,
            `update app.tenants set allowed_networks = '{192.0.2.0/24}' where tenant_id = $1`,
            [tenantId],
          ),
      ],
    ])('%s: %s', async (refused, _cause, takeAway) => {
      const s = await subject()

      await takeAway(s)

      await all(s.everywhere, refused)
      const written = await Promise.all(s.everywhere.map((client) => client.post('/projects', { name: randomUUID() })))
      expect(written.map(verdict)).toEqual(written.map(() => refused))
    })

    test('a role that is lowered, and one that is raised', async () => {
      const s = await subject()
      const asked = () => Promise.all(s.everywhere.map((client) => client.get('/api-keys')))
      expect((await asked()).map(verdict)).toEqual(Array(3).fill('403 forbidden'))

      await member({ role: 'admin' })(s)
      expect((await asked()).map(verdict)).toEqual(Array(3).fill('200 ok'))

      await member({ role: 'member' })(s)
      expect((await asked()).map(verdict)).toEqual(Array(3).fill('403 forbidden'))
      await all(s.everywhere, '200 ok')
    })

    test('401 unauthenticated: a key that is revoked, which all three had let in', async () => {
      const { owner } = await subject()
      const made = await owner.post('/api-keys', { name: 'service', permissions: ['projects:read'] })
      const { id, secret } = made.json()
      const everywhere = clientAt({ authorization: `Bearer ${secret}` })
      await all(everywhere, '200 ok')

      expectOk(await owner.delete(`/api-keys/${id}`))

      await all(everywhere, '401 unauthenticated')
    })

    test('a door that forgets to look is found by the same', async () => {
      const { rows } = await it.superuser.query(
        `select pg_get_functiondef('app.enter(bytea, uuid, text, text, text, inet)'::regprocedure) as sql`,
      )
      const whole: string = rows[0].sql
      const faulty = whole.replace('s.revoked_at is null and', '')
      expect(faulty).not.toBe(whole)
      const s = await subject()
      await it.superuser.query(faulty)
      try {
        expectOk(await s.person.post('/auth/logout', {}))
        await expect(all(s.everywhere, '401 unauthenticated')).rejects.toThrow()
      } finally {
        await it.superuser.query(whole)
      }
      await all(s.everywhere, '401 unauthenticated')
    })

    test('requests that never pause: of those that begin after it, none is let in', async () => {
      const s = await subject()
      let ended = false
      const lateOnes: string[] = []
      const loops = s.everywhere.map(async (client) => {
        for (let after = 0; after < 5; ) {
          const isLate = ended
          const said = verdict(await client.get('/projects'))
          if (isLate) {
            after += 1
            lateOnes.push(said)
          }
        }
      })
      expectOk(await s.person.post('/auth/logout', {}))
      ended = true
      await Promise.all(loops)

      expect(new Set(lateOnes)).toEqual(new Set(['401 unauthenticated']))
    })
  })

refusals('while Redis is down', () => 'redis://127.0.0.1:1')

describeWithRedis('with Redis', (redisUrl) => {
  refusals('while it is up', () => redisUrl)

  describe('that goes away', () => {
    let proxy: FaultyProxy
    beforeAll(async () => {
      const { hostname, port } = new URL(redisUrl)
      proxy = await startProxy({ host: hostname, port: Number(port) })
    })
    afterAll(() => proxy.close())

    refusals(
      'after they were connected',
      () => `redis://127.0.0.1:${proxy.port}`,
      async () => proxy.cut(),
    )
  })
})
