import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Clone, cloneDatabase, isManaged } from '../servers.ts'
import { enterAs } from '../sessions.ts'

// What an attacker could do who has the API's own connection, and psql.

type Session = Awaited<ReturnType<typeof enterAs>>
type Target = { table: string; columns: string[] }

let database: Clone
let superuser: pg.Pool
let api: pg.Client
let acme: Session
let globex: Session
let targets: Target[]

beforeAll(async () => {
  database = await cloneDatabase()
  superuser = new pg.Pool({ connectionString: database.urls.superuser, max: 3 })
  superuser.on('error', () => {})
  acme = await enterAs(superuser, 'owner', 'acme')
  globex = await enterAs(superuser, 'owner', 'globex')
  api = await connect(database.urls.api)
  const { rows } = await superuser.query<Target>(
    `select format('%I.%I', n.nspname, c.relname) as table,
            array_agg(a.attname::text order by a.attnum) as columns
       from pg_class c
       join pg_namespace n on n.oid = c.relnamespace
       join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      where c.relkind in ('r', 'p') and n.nspname in ('app', 'audit')
      group by 1 order by 1`,
  )
  targets = rows
})
afterAll(async () => {
  await api.end()
  await superuser.end()
  await database.drop()
})

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  return client
}

/** What a statement does, inside a transaction of its own that is undone. */
async function attempt(client: pg.Client, before: string[], text: string, values: unknown[] = []) {
  await client.query('begin')
  try {
    for (const statement of before) await client.query(statement)
    const { rowCount } = await client.query(text, values)
    return rowCount ?? 0
  } catch (error) {
    return (error as pg.DatabaseError).code
  } finally {
    await client.query('rollback')
  }
}

const permissionDenied = '42501'
const contextDoesNotFit = 'BH007'

/** Every way to touch every table. */
const statements = ({ table, columns }: Target) => ({
  select: `select * from ${table}`,
  insert: `insert into ${table} default values`,
  ...(columns.includes('tenant_id') && {
    'insert for globex': `insert into ${table} (tenant_id) values ('${globex.tenantId}')`,
  }),
  update: `update ${table} set ${columns.includes('name') ? 'name' : columns[0]} = ${columns.includes('name') ? 'name' : columns[0]}`,
  delete: `delete from ${table}`,
  truncate: `truncate ${table}`,
  copy: `copy ${table} to stdout`,
})

describe('with no context', () => {
  test('every table shows no rows and takes none', async () => {
    expect(targets.length).toBeGreaterThan(10)
    for (const target of targets) {
      for (const [name, statement] of Object.entries(statements(target))) {
        const outcome = await attempt(api, [], statement)
        expect([0, permissionDenied, 'BH008', '23502', '428C9'], `${name}: ${statement}`).toContain(outcome)
      }
    }
  })

  test('a table that refuses an insert for lack of a column refuses a whole row too', async () => {
    expect(await attempt(api, [], "insert into app.projects (name) values ('x')")).not.toBe(1)
    expect(
      await attempt(api, [], "insert into app.projects (tenant_id, name) values ($1, 'x')", [globex.tenantId]),
    ).toBe(permissionDenied)
  })

  test('after a transaction in a tenant, the same connection sees nothing and complains of nothing', async () => {
    await api.query('begin')
    await enter(api, acme)
    await api.query('commit')

    const { rows } = await api.query('select * from app.projects')
    expect(rows).toEqual([])
  })
})

describe('with a context that was not made for this transaction', () => {
  const set = (context: string) => `set local app.context = '${context.replaceAll("'", "''")}'`

  test('a hand-set one: no rows, or the error of its own', async () => {
    const fields = `${globex.tenantId}|user|${globex.userId}|owner|${globex.sessionId}|x|127.0.0.1`
    const forged = [`${'0'.repeat(64)}|${fields}`, fields, globex.tenantId, '|', ' ', `${'0'.repeat(64)}|`]
    for (const context of forged) {
      for (const target of targets) {
        const outcome = await attempt(api, [set(context)], `select * from ${target.table}`)
        expect([0, permissionDenied, contextDoesNotFit], `${context} on ${target.table}`).toContain(outcome)
      }
      expect(await attempt(api, [set(context)], "insert into app.projects (name) values ('x')")).toBe(contextDoesNotFit)
    }
  })

  test('the settings for human eyes open nothing', async () => {
    const settings = [`set local app.tenant_id = '${globex.tenantId}'`, `set local app.actor_id = '${globex.userId}'`]
    expect(await attempt(api, settings, 'select * from app.projects')).toBe(0)
  })

  test('a genuine one, replayed: on the same connection, on another, and in another tenant’s transaction', async () => {
    await api.query('begin')
    await enter(api, globex)
    const { rows } = await api.query<{ context: string }>("select current_setting('app.context') as context")
    await api.query('commit')
    const genuine = rows[0]?.context ?? ''
    expect(genuine).toContain(globex.tenantId)
    const other = await connect(database.urls.api)

    expect(await attempt(api, [set(genuine)], 'select * from app.projects')).toBe(contextDoesNotFit)
    expect(await attempt(other, [set(genuine)], 'select * from app.projects')).toBe(contextDoesNotFit)

    await api.query('begin')
    await enter(api, acme)
    await api.query(set(genuine))
    await expect(api.query('select * from app.projects')).rejects.toMatchObject({ code: contextDoesNotFit })
    await api.query('rollback')
    await other.end()
  })

  test('a genuine one, edited in any field', async () => {
    for (const index of [1, 2, 3, 4, 5, 6, 7, 8]) {
      await api.query('begin')
      await enter(api, acme)
      const { rows } = await api.query<{ context: string }>("select current_setting('app.context') as context")
      const fields = rows[0]?.context.split('|') ?? []
      expect(fields).toHaveLength(9)
      fields[index] = index === 1 ? globex.tenantId : `${fields[index]}0`
      await api.query(set(fields.join('|')))
      await expect(api.query('select * from app.projects'), `field ${index}`).rejects.toMatchObject({
        code: contextDoesNotFit,
      })
      await api.query('rollback')
    }
  })
})

test('what a caller may choose of a context has no bar, which would move the fields behind it', async () => {
  for (const requestId of ['x|10.0.0.1', `x|127.0.0.1|${globex.userId}`, '|']) {
    const text = `select app.enter($1, $2, null, 'projects:write', $3, '127.0.0.1')`
    expect(await attempt(api, [], text, [acme.secret, acme.tenantId, requestId])).toBe('22023')
  }
})

describe('inside acme’s transaction', () => {
  const inAcme = async (text: string, values: unknown[] = []) => {
    await api.query('begin')
    await enter(api, acme)
    try {
      return await api.query(text, values)
    } catch (error) {
      return (error as pg.DatabaseError).code
    } finally {
      await api.query('rollback')
    }
  }

  test('acme’s rows are there, and globex’s are not, in whichever words they are asked for', async () => {
    const asks = [
      'select tenant_id from app.projects',
      `select tenant_id from app.projects where tenant_id = '${globex.tenantId}' or true`,
      'select tenant_id from app.projects union all select tenant_id from app.memberships union all select tenant_id from app.tenants',
      'select p.tenant_id from app.tenants t right join app.projects p on true',
      "select tenant_id from app.audit_log where table_name = 'projects'",
    ]
    for (const ask of asks) {
      const result = await inAcme(ask)
      if (typeof result === 'string' || !result) throw new Error(`${ask}: ${result}`)
      expect(result.rows.length, ask).toBeGreaterThan(0)
      expect([...new Set(result.rows.map((row) => row.tenant_id))], ask).toEqual([acme.tenantId])
    }
  })

  test.each([
    ['the tenant of a row is not written', 'update app.projects set tenant_id = $1', permissionDenied],
    ['the log is not written', "insert into app.audit_log (tenant_id, action) values ($1, 'insert')", permissionDenied],
    ['the log is not changed', 'update app.audit_log set actor_id = $1', permissionDenied],
    ['the log is not emptied', 'truncate app.audit_log', permissionDenied],
    [
      'a partition is not read',
      `select * from audit.audit_log_${new Date().toISOString().slice(0, 7).replace('-', '_')}`,
      permissionDenied,
    ],
    ['the key is not read', 'select * from app.context_key', permissionDenied],
    ['sessions are not read', 'select * from app.sessions', permissionDenied],
    ['people are not read', 'select * from app.users', permissionDenied],
    ['no other role is taken', 'set role app_owner', permissionDenied],
    ['no context is sealed', "select app.seal($1, 'user', null, 'owner', null, 'x', null)", permissionDenied],
    ['no person is registered', "select app.find_credential('owner@globex.test')", permissionDenied],
    ['no table is made', 'create table app.mine (id int)', permissionDenied],
    ['no temporary table is made', 'create temp table projects (id int)', permissionDenied],
    ['no trigger is turned off', "set session_replication_role = 'replica'", permissionDenied],
    ['row security is not turned off', 'alter table app.projects disable row level security', permissionDenied],
  ])('%s', async (_what, text, expected) => {
    const outcome = await inAcme(text, text.includes('$1') ? [globex.tenantId] : [])
    expect(['42501', '25006']).toContain(expected)
    expect(outcome === '42P01' ? 'no such table' : outcome).toBe(expected)
  })

  test('no expression reaches the session’s state; where a server lets it, the seal holds', async () => {
    const expressions = [
      "set_config('app.context', '', true)",
      "query_to_xml($$select set_config('app.context', '', true)$$, true, true, '')",
      'pg_advisory_lock(1)',
      'pg_advisory_xact_lock(1)',
      "pg_notify('a', 'b')",
      'lo_create(0)',
      'pg_cancel_backend(pg_backend_pid())',
      'pg_terminate_backend(pg_backend_pid())',
      '(select count(*) from pg_prepared_statements)',
    ]
    for (const expression of isManaged() ? [] : expressions) {
      expect(await inAcme(`select ${expression}`), expression).toBe(permissionDenied)
    }
    const switched = await inAcme(
      `select p.tenant_id from (select set_config('app.tenant_id', $1, true), set_config('app.context', $1, true)) s, app.projects p`,
      [globex.tenantId],
    )
    expect(switched).toBe(isManaged() ? contextDoesNotFit : permissionDenied)
  })

  test('a value used by another tenant is free, and waits for nobody', async () => {
    const other = await connect(database.urls.api)
    await other.query('begin')
    await enter(other, globex)
    await other.query("insert into app.projects (name) values ('simultaneous')")

    const mine = await inAcme("insert into app.projects (name) values ('simultaneous') returning tenant_id")

    expect(mine).toMatchObject({ rows: [{ tenant_id: acme.tenantId }] })
    await other.query('rollback')
    await other.end()
  })

  test('a lock that one tenant holds under a name is free for another', async () => {
    const other = await connect(database.urls.api)
    await other.query('begin')
    await enter(other, globex)
    await other.query("select app.try_lock('same')")

    expect(await inAcme("select app.try_lock('same') as taken")).toMatchObject({ rows: [{ taken: true }] })
    await other.query('rollback')
    await other.end()
  })
})

test('one transaction cannot fill the server’s table of locks', async () => {
  await api.query('begin')
  await enter(api, acme)
  await api.query('select app.try_lock(n::text) from generate_series(1, 16) n')
  await expect(api.query("select app.try_lock('one more')")).rejects.toMatchObject({ code: 'BH011' })
  await api.query('rollback')
})

test('who may not read the log cannot write a read of it', async () => {
  const member = await enterAs(superuser, 'member', 'acme')
  await api.query('begin')
  await enter(api, member)
  await expect(api.query("select app.audit_read('audit_log', '{}')")).rejects.toMatchObject({ code: 'BH004' })
  await api.query('rollback')
})

describe('the owner', () => {
  test('sees and writes nothing without a context, and cannot touch the log with one', async () => {
    const owner = await connect(database.urls.superuser)
    const asOwner = ['set local role app_owner']
    expect(await attempt(owner, asOwner, 'select * from app.projects')).toBe(0)
    expect(await attempt(owner, asOwner, 'update app.projects set name = name')).toBe(0)
    expect(await attempt(owner, ['set local role app_audit'], 'truncate app.audit_log')).toBe('BH010')
    for (const statement of ['update app.audit_log set actor_id = null', 'delete from app.audit_log']) {
      expect(await attempt(owner, [], statement), `a superuser: ${statement}`).toBe('BH010')
      expect(await attempt(owner, ["set local session_replication_role = 'replica'"], statement)).toBe('BH010')
    }
    await owner.end()
  })

  test('writes of a superuser too need a context, and are in the log with it', async () => {
    const owner = await connect(database.urls.superuser)
    expect(await attempt(owner, [], 'update app.projects set description = $1', ['x'])).toBe('BH008')
    expect(await attempt(owner, ["set local session_replication_role = 'replica'"], 'delete from app.projects')).toBe(
      'BH008',
    )
    await owner.query('begin')
    await owner.query(`select app.seal($1, 'system', null, 'system', null, 'by-hand', null)`, [acme.tenantId])
    await expect(
      owner.query("update app.projects set description = 'x' where tenant_id = $1", [globex.tenantId]),
    ).rejects.toMatchObject({
      code: contextDoesNotFit,
    })
    await owner.query('rollback')
    await owner.end()
  })
})

const enter = (client: pg.Client, session: Session) =>
  client.query(`select app.enter($1, $2, null, 'projects:write', 'wall', '127.0.0.1')`, [
    session.secret,
    session.tenantId,
  ])
