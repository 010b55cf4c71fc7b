/** No time that is taken is one that cannot be answered, and no answer that cannot be made is of something that was done. */
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Person, world } from './harness.ts'
import { makeProject } from './projects.ts'

const it = world()
let acme: Person
let project: string

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  project = await makeProject(acme)
})

const two = (from: number, to: number) => fc.integer({ min: from, max: to }).map((n) => String(n).padStart(2, '0'))

/** Times as people write them, most of them around the first and the last that there are. */
const time = fc
  .tuple(
    fc.constantFrom('0000-12-31', '0001-01-01', '0001-01-02', '9999-12-30', '9999-12-31', '2026-02-29', '2026-06-30'),
    fc.constantFrom('00', '01', '09', '10', '13', '14', '22', '23', '24'),
    fc.constantFrom('00', '01', '59', '60'),
    fc.constantFrom('00', '01', '59', '60', '61'),
    fc.constantFrom('', '.0', '.9', '.999999', '.9999999'),
    fc.oneof(fc.constantFrom('Z', '+00:00', '-00:00'), fc.tuple(fc.constantFrom('+', '-'), two(0, 15), two(0, 59))),
  )
  .map(([day, hour, minute, second, fraction, offset]) => {
    const zone = typeof offset === 'string' ? offset : `${offset[0]}${offset[1]}:${offset[2]}`
    return `${day}T${hour}:${minute}:${second}${fraction}${zone}`
  })

const beyond: [time: string][] = [
  ['9999-12-31T23:59:59-12:00'],
  ['9999-12-31T23:59:59.999999-00:01'],
  ['0001-01-01T00:00:00+14:00'],
  ['0001-01-01T00:00:59+00:01'],
  ['9999-12-31T23:59:60Z'],
  ['2016-12-31T23:59:60Z'],
]

const within: [time: string, answered: string][] = [
  ['9999-12-31T23:59:59.999999Z', '9999-12-31T23:59:59.999999Z'],
  ['9999-12-31T23:59:59+12:00', '9999-12-31T11:59:59Z'],
  ['0001-01-01T00:00:00Z', '0001-01-01T00:00:00Z'],
  ['0001-01-01T00:00:00-14:00', '0001-01-01T14:00:00Z'],
]

describe('a time of a client', () => {
  test('whatever is answered to one, lists are answered afterwards', async () => {
    const taken = new Set<number>()
    const property = fc.asyncProperty(time, async (due_at) => {
      const at = encodeURIComponent(due_at)
      const answers = await Promise.all([
        acme.post('/tasks', { project_id: project, title: 'timed', due_at }),
        acme.post('/tasks', { project_id: project, title: 'timed', status: 'done', completed_at: due_at }),
        acme.post('/tasks/bulk', {
          operations: [{ op: 'create', data: { project_id: project, title: 'timed', due_at } }],
        }),
        acme.get(`/tasks?due_at_gte=${at}&sort=due_at`),
      ])
      const lists = await Promise.all([acme.get('/tasks?limit=100'), acme.get('/tasks?sort=due_at&limit=100')])

      const statuses = answers.map(({ statusCode }) => statusCode)
      expect([201, 400]).toContain(statuses[0])
      expect(statuses[1]).toBe(statuses[0])
      expect(statuses[2]).toBe(statuses[0] === 201 ? 200 : 400)
      expect(statuses[3]).toBe(statuses[0] === 201 ? 200 : 400)
      expect(lists.map(({ statusCode }) => statusCode)).toEqual([200, 200])
      taken.add(statuses[0] ?? 0)
    })
    await fc.assert(property, { numRuns: 60, examples: [...beyond, ...within.map(([at]): [string] => [at])] })

    expect([...taken].sort(), 'both were seen').toEqual([201, 400])
  })

  test.each(beyond)('400: %s, and nothing is made', async (at) => {
    const keys = (await acme.get('/api-keys')).json().data.length

    const answers = await Promise.all([
      acme.post('/tasks', { project_id: project, title: 'timed', due_at: at }),
      acme.post('/api-keys', { name: 'timed', permissions: [], expires_at: at }),
    ])

    expect(answers.map(({ statusCode }) => statusCode)).toEqual([400, 400])
    expect(answers[0]?.json().errors).toContainEqual(expect.objectContaining({ path: '/due_at' }))
    expect((await acme.get('/api-keys')).json().data).toHaveLength(keys)
  })

  test.each(within)('%s is answered as %s', async (at, answered) => {
    const made = await acme.post('/tasks', { project_id: project, title: 'timed', due_at: at })

    expect(made.statusCode, made.body).toBe(201)
    expect(made.json().due_at).toBe(answered)
  })

  test.each(['10000-01-01T00:00:00Z', 'infinity', '-infinity', '0001-12-31T23:59:59Z BC'])(
    'the database refuses %s, whoever writes it',
    async (at) => {
      const client = await it.superuser.connect()
      try {
        await client.query(
          'begin; alter table app.tasks disable trigger all; alter table app.api_keys disable trigger all',
        )
        const tenant = acme.tenantId
        const rows = [
          [
            `tasks (tenant_id, project_id, title, due_at) values ('${tenant}', '${project}', 'x', $1)`,
            'tasks_times_check',
          ],
          [
            `tasks (tenant_id, project_id, title, status, completed_at) values ('${tenant}', '${project}', 'x', 'done', $1)`,
            'tasks_times_check',
          ],
          [
            `api_keys (tenant_id, name, prefix, secret_hash, expires_at)
               values ('${tenant}', 'x', 'bhk_aaaaaaaa', sha256('x'), $1)`,
            'api_keys_expires_at_check',
          ],
        ]
        for (const [row, constraint] of rows) {
          await client.query('savepoint here')
          const refused = await client.query(`insert into app.${row}`, [at]).catch((error) => error)
          await client.query('rollback to here')
          expect(refused.constraint, String(row)).toBe(constraint)
        }
      } finally {
        await client.query('rollback')
        client.release()
      }
    },
  )
})

describe('an answer that cannot be made', () => {
  test('is not of something that was done', async () => {
    await it.superuser.query(`
      alter table app.tasks drop constraint tasks_times_check;
      create function public.spoil() returns trigger language plpgsql as $$
        begin new.due_at := '10000-01-01T00:00:00Z'; return new; end $$;
      create trigger spoil before insert on app.tasks for each row execute function public.spoil();
      alter table app.tasks enable always trigger spoil`)
    const count = async () => (await it.superuser.query('select count(*)::int as n from app.tasks')).rows[0].n
    const before = await count()

    const spoilt = await acme.post('/tasks', { project_id: project, title: 'spoilt' })
    const again = await acme.post('/tasks', { project_id: project, title: 'spoilt' }, { 'idempotency-key': 'spoilt' })

    expect([spoilt.statusCode, again.statusCode]).toEqual([500, 500])
    expect(await count()).toBe(before)
    expect((await acme.get('/tasks')).statusCode).toBe(200)
  })
})
