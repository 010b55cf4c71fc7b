import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { visit } from '../auditor.ts'
import { type Clone, cloneDatabase } from '../servers.ts'
import { enterAs } from '../sessions.ts'

// What app_auditor sees: nothing of a tenant, until the tenant can see that somebody looks.

let database: Clone
let superuser: pg.Pool
let auditor: pg.Client
let acme: Awaited<ReturnType<typeof enterAs>>
let tables: { name: string; redacted: string[]; columns: string[] }[]

beforeAll(async () => {
  database = await cloneDatabase()
  superuser = new pg.Pool({ connectionString: database.urls.superuser, max: 2 })
  superuser.on('error', () => {})
  acme = await enterAs(superuser, 'owner', 'acme')
  auditor = await connect(database.urls.auditor)
  const { rows } = await superuser.query<(typeof tables)[number]>(
    `select format('%I.%I', n.nspname, c.relname) as name, array_agg(a.attname::text order by a.attnum) as columns,
            coalesce((select distinct string_to_array(rtrim(encode(t.tgargs, 'escape'), '\\000'), '\\000') from pg_trigger t
                       where t.tgrelid = c.oid and t.tgfoid = 'app.audit()'::regprocedure and t.tgnargs > 0), '{}') as redacted
       from pg_class c join pg_namespace n on n.oid = c.relnamespace
       join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      where n.nspname = 'app' and c.relkind in ('r', 'p')
        and exists (select from pg_attribute x where x.attrelid = c.oid and x.attname = 'tenant_id')
      group by c.oid, 1 order by 1`,
  )
  // behind the word personal stand columns that are no secrets
  const untilPersonal = (names: string[]) => names.slice(0, [...names, 'personal'].indexOf('personal'))
  tables = rows.map((row) => ({ ...row, redacted: untilPersonal(row.redacted) }))
})

beforeEach(() => auditor.query('rollback'))

afterAll(async () => {
  await auditor.end()
  await superuser.end()
  await database.drop()
})

const connect = async (connectionString: string): Promise<pg.Client> => {
  const client = new pg.Client({ connectionString })
  client.on('error', () => {})
  await client.connect()
  return client
}

const announce = (slug = 'acme', person: string | null = 'ada', reason: string | null = 'ticket 4711') =>
  auditor.query('select app.announce_visit($1, $2, $3) as id', [slug, person, reason]).then(({ rows }) => rows[0].id)

const enter = (id: string, slug = 'acme') => auditor.query('select app.enter_auditor($1, $2)', [slug, id])

const readable = ({ columns, redacted }: (typeof tables)[number]) =>
  columns.filter((column) => !redacted.includes(column)).join(', ')

describe('without a visit', () => {
  test('no tenant’s row is seen in any table', async () => {
    expect(tables.length).toBeGreaterThanOrEqual(5)
    for (const table of tables) {
      expect((await auditor.query(`select ${readable(table)} from ${table.name}`)).rows, table.name).toEqual([])
    }
  })

  test('the security log is read, and people, sessions and keys are not', async () => {
    expect((await auditor.query('select event from app.security_log')).rows.length).toBeGreaterThan(0)
    for (const table of ['users', 'sessions', 'context_key', 'permissions']) {
      await expect(auditor.query(`select * from app.${table}`), table).rejects.toMatchObject({ code: '42501' })
    }
  })
})

describe('in a visit', () => {
  test('every table shows that tenant’s rows, and no other’s, and no column that the log redacts', async () => {
    const before = await superuser.query(`select count(*)::int as n from app.projects where tenant_id = $1`, [
      acme.tenantId,
    ])
    await visit(auditor, 'acme')

    for (const table of tables) {
      const { rows } = await auditor.query(`select distinct tenant_id from ${table.name}`)
      expect(
        rows.filter(({ tenant_id }) => tenant_id !== acme.tenantId),
        table.name,
      ).toEqual([])
    }
    expect((await auditor.query('select * from app.projects')).rows).toHaveLength(before.rows[0].n)
    const redacted = tables.flatMap(({ name, redacted }) => redacted.map((column) => [name, column] as const))
    expect(redacted).toContainEqual(['app.idempotency_keys', 'body'])
    for (const [table, column] of redacted) {
      await auditor.query('savepoint s')
      await expect(auditor.query(`select ${column} from ${table}`)).rejects.toMatchObject({ code: '42501' })
      await auditor.query('rollback to s')
    }
  })

  test('nothing is written, in it or outside', async () => {
    for (const begin of [() => visit(auditor, 'acme'), () => auditor.query('begin read write')]) {
      for (const { name } of tables) {
        for (const write of [
          `insert into ${name} default values`,
          `update ${name} set id = id`,
          `delete from ${name}`,
        ]) {
          await begin()
          await expect(auditor.query(write), write).rejects.toMatchObject({
            code: expect.stringMatching(/42501|25006/),
          })
          await auditor.query('rollback')
        }
      }
    }
  })

  test('rows are gone with the transaction', async () => {
    await visit(auditor, 'acme')
    expect((await auditor.query('select * from app.projects')).rows.length).toBeGreaterThan(0)
    await auditor.query('commit')
    expect((await auditor.query('select * from app.projects')).rows).toEqual([])
  })
})

describe('a visit is written down before a row is seen', () => {
  test('in the tenant’s audit log and in the security log: who, as which login, why', async () => {
    const id = await visit(auditor, 'acme', 'ticket 4711')
    const { rows } = await auditor.query('select * from app.audit_log where id = $1', [id])
    const { rows: events } = await auditor.query(`select * from app.security_log where detail ->> 'visit_id' = $1`, [
      id,
    ])
    await auditor.query('rollback')

    const told = { login: 'app_auditor', person: 'ada', reason: 'ticket 4711' }
    expect(rows).toMatchObject([
      {
        tenant_id: acme.tenantId,
        actor_kind: 'operator',
        actor_id: null,
        role: 'auditor',
        action: 'read',
        table_name: 'tenants',
        row_id: acme.tenantId,
        new_row: told,
      },
    ])
    expect(events).toMatchObject([{ event: 'tenant_visited', about_tenant_id: acme.tenantId, detail: told }])
  })

  test('announcing shows no row, and leaves no tenant behind', async () => {
    await auditor.query('begin read write')
    await announce()
    expect((await auditor.query('select * from app.projects')).rows).toEqual([])
    expect((await auditor.query('select app.tenant_id() as id')).rows).toEqual([{ id: null }])
  })

  test('what is not committed opens nothing', async () => {
    await auditor.query('begin read write')
    const id = await announce()
    await expect(enter(id)).rejects.toMatchObject({ code: 'BH014' })
    await auditor.query('rollback')

    await auditor.query('begin read write')
    const second = await announce()
    await auditor.query('set transaction read only')
    await expect(enter(second)).rejects.toMatchObject({ code: 'BH014' })
    await auditor.query('rollback')
  })

  test('what was rolled back opens nothing, though its transaction was committed', async () => {
    await auditor.query('begin read write')
    await auditor.query('savepoint s')
    const id = await announce()
    await auditor.query('rollback to s')
    await auditor.query('commit')
    await auditor.query('begin read only')

    await expect(enter(id)).rejects.toMatchObject({ code: 'BH014' })
  })

  test('a transaction that can write opens nothing', async () => {
    const id = await visit(auditor, 'acme')
    await auditor.query('commit')
    await auditor.query('begin read write')

    await expect(enter(id)).rejects.toMatchObject({ code: 'BH014' })
  })

  test('neither does another session’s visit, another tenant’s, nor one that was announced long ago', async () => {
    const id = await visit(auditor, 'acme')
    await auditor.query('commit')
    const other = await connect(database.urls.auditor)
    await other.query('begin read only')
    await expect(other.query('select app.enter_auditor($1, $2)', ['acme', id])).rejects.toMatchObject({ code: 'BH014' })
    await other.end()

    await auditor.query('begin read only')
    await expect(enter(id, 'globex')).rejects.toMatchObject({ code: 'BH014' })
    await auditor.query('rollback')

    const { rows } = await auditor.query('select pg_backend_pid() as pid')
    const client = await superuser.connect()
    const aged = async (age: string) => {
      const { rows: made } = await client.query(
        `insert into app.audit_log (tenant_id, at, actor_kind, role, request_id, action, table_name, new_row)
         values ($1, clock_timestamp() - $2::interval, 'operator', 'auditor', $3, 'read', 'tenants', '{}') returning id`,
        [acme.tenantId, age, `auditor-${rows[0].pid}`],
      )
      return made[0].id
    }
    await auditor.query('begin read only')
    await expect(enter(await aged('61 seconds'))).rejects.toMatchObject({ code: 'BH014' })
    await auditor.query('rollback')
    await auditor.query('begin read only')
    await enter(await aged('1 second'))
    client.release()
  })

  test('without a person, a reason or a tenant there is none', async () => {
    for (const [slug, person, reason, code] of [
      ['acme', '', 'why', '22023'],
      ['acme', null, 'why', '22023'],
      ['acme', 'ada', ' ', '22023'],
      ['acme', 'ada', null, '22023'],
      ['acme', 'ada', 'x'.repeat(501), '22023'],
      ['nowhere', 'ada', 'why', 'BH002'],
    ] as const) {
      await auditor.query('begin read write')
      await expect(announce(slug, person, reason), `${slug} ${person} ${reason}`).rejects.toMatchObject({ code })
      await auditor.query('rollback')
    }
  })

  test('a second tenant is not entered beside the first', async () => {
    const id = await visit(auditor, 'acme')
    await expect(enter(id)).rejects.toMatchObject({ code: 'BH006' })
  })

  test('the door is the auditor’s alone', async () => {
    for (const login of ['api', 'worker', 'auth', 'operator'] as const) {
      const client = await connect(database.urls[login])
      for (const call of [
        `app.announce_visit('acme', 'x', 'y')`,
        `app.enter_auditor('acme', gen_random_uuid())`,
        `app.audit_visit('x', 'y')`,
      ]) {
        await expect(client.query(`select ${call}`), `${login}: ${call}`).rejects.toMatchObject({ code: '42501' })
      }
      await client.end()
    }
    await expect(auditor.query(`select app.audit_visit('x', 'y')`)).rejects.toMatchObject({ code: '42501' })
  })
})
