/** What SQL injected into the operators' connection reaches: as app_operator, with and without an operator's context. */
import { createHash, randomBytes } from 'node:crypto'
import { sql } from 'kysely'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { asOperator } from '../../src/db/door.ts'
import { makePool } from '../../src/db/pool.ts'
import { type Person, world } from '../harness.ts'
import { makeOperator } from './stage.ts'

const it = world()
const canary = 'zebra-crossing-4711'
const secret = randomBytes(32)
let acme: Person
let operatorId: string
let pool: pg.Pool

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  await acme.post('/projects', { name: canary, description: canary })
  operatorId = await makeOperator(it, 'olga@bulkhead.test')
  await it.superuser.query(
    `select app.start_operator_session($1, $2, $3, 'test', '1 hour', '1 hour', 'test', null, 'test')`,
    [operatorId, createHash('sha256').update(secret).digest(), randomBytes(32)],
  )
  pool = makePool(it.database.urls.operator, { max: 2, waitMs: 5000, name: 'injected', onError: () => {} })
})
afterAll(() => pool.end())

/** In a transaction of an operator, which is taken back; a statement that is refused answers its SQLSTATE. */
const inject = async (text: string, values: unknown[] = []): Promise<pg.QueryResult | string> => {
  const client = new pg.Client({ connectionString: it.database.urls.operator })
  client.on('error', () => {})
  await client.connect()
  try {
    await client.query('begin')
    await client.query('select app.enter_operator($1, $2, null)', [secret, 'test'])
    return await client.query(text, values).catch((error: pg.DatabaseError) => error.code ?? 'unknown')
  } finally {
    await client.end()
  }
}

test('an operator is in no tenant, and is known by name', async () => {
  const result = await inject('select app.tenant_id() as tenant, app.actor_id() as actor, app.role() as role')
  expect((result as pg.QueryResult).rows).toEqual([{ tenant: null, actor: operatorId, role: 'operator' }])
})

test('every table refuses to be read, written or locked, in an operator’s own transaction', async () => {
  const { rows } = await it.superuser.query<{ name: string }>(
    `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname in ('app', 'audit', 'pgboss') and c.relkind in ('r', 'p') order by 1`,
  )
  expect(rows.length).toBeGreaterThan(20)
  for (const { name } of rows) {
    for (const text of [
      `select * from ${name}`,
      `delete from ${name}`,
      `insert into ${name} default values`,
      `lock table ${name}`,
    ]) {
      expect(await inject(text), text).toBe('42501')
    }
  }
})

/** Of the functions that an operator may call, those whose answer has a word of a tenant's row in it; and how many were called. */
const talkative = async (): Promise<{ called: number; found: string[] }> => {
  const { rows } = await it.superuser.query<{ name: string; args: string[]; names: string[] }>(
    `select p.oid::regproc::text as name, array(select format_type(t, null) from unnest(p.proargtypes) t) as args,
            coalesce(p.proargnames[1:p.pronargs], '{}') as names
       from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname = 'app' and has_function_privilege('app_operator', p.oid, 'execute') order by 1`,
  )
  const sample = (type: string, name: string): string => {
    if (type === 'uuid') return `'${/tenant/.test(name) ? acme.tenantId : acme.userId}'::uuid`
    if (type === 'text') return `'${/email/.test(name) ? acme.email : 'apollo'}'::text`
    if (type === 'integer') return '100'
    if (type === 'boolean') return 'true'
    if (type === 'interval') return `'1 hour'::interval`
    if (type === 'bytea') return `sha256('x')`
    if (type === 'jsonb') return `'{}'::jsonb`
    return `null::${type}`
  }
  const found: string[] = []
  for (const { name, args, names } of rows) {
    for (const given of [args.map((type, at) => sample(type, names[at] ?? '')), args.map((type) => `null::${type}`)]) {
      const result = await inject(`select x::text as said from ${name}(${given.join(', ')}) x`)
      const said = typeof result === 'string' ? result : JSON.stringify(result.rows)
      // a project's name, a member's, a password
      if (said.includes(canary) || /Olive Owner|argon2id\$v=19\$m=19456,t=2,p=1\$/.test(said)) found.push(name)
    }
  }
  return { called: rows.length, found }
}

test('no function that an operator may call tells a value of a tenant’s row, whatever it is asked', async () => {
  const { called, found } = await talkative()
  expect(called).toBeGreaterThan(15)
  expect(found).toEqual([])
})

test('one that did would be found', async () => {
  await it.superuser.query(
    `create function app.peek(p_tenant_id uuid) returns text language sql stable security definer
       as $$ select string_agg(name, ' ') from app.projects where tenant_id = p_tenant_id $$;
     grant execute on function app.peek(uuid) to app_operator`,
  )
  try {
    expect((await talkative()).found).toEqual(['app.peek'])
  } finally {
    await it.superuser.query('drop function app.peek(uuid)')
  }
})

test('an operator’s context is good for its transaction, and cannot be made into a tenant’s', async () => {
  const current = (await inject(`select current_setting('app.context') as it`)) as pg.QueryResult
  const [mark, ...fields] = String(current.rows[0].it).split('|')
  const forged = [mark, acme.tenantId, ...fields.slice(1)].join('|')
  for (const context of [forged, current.rows[0].it]) {
    expect(await inject(`select set_config('app.context', $1, true), app.tenant_id()`, [context])).toBe('42501')
    const client = new pg.Client({ connectionString: it.database.urls.operator })
    await client.connect()
    await client.query('begin')
    await client.query(`set local app.context = '${context}'`)
    const asked = client.query('select * from app.tenant_accounts').catch((error: pg.DatabaseError) => error.code)
    expect(await asked).toBe('BH007')
    await client.end()
  }
})

test('BH001: what operators may do asks who they are: without a context, and in a tenant’s', async () => {
  const calls = [
    'select * from app.tenant_accounts',
    'select * from app.operator_accounts',
    `select app.change_tenant('${acme.tenantId}', 'taken over', null, null)`,
    `select app.suspend_tenant('${acme.tenantId}', true, null, null)`,
    `select app.add_operator('eve@bulkhead.test', 'Eve', 'x')`,
    `select app.claim_operator_key('x')`,
  ]
  for (const call of calls) {
    await expect(pool.query(call), call).rejects.toMatchObject({ code: 'BH001' })
    // as a superuser, whom no privilege stops: in a tenant's context an owner is no operator
    const client = await it.superuser.connect()
    await client.query('begin')
    await client.query(`select app.seal($1, 'user', $2, 'owner', null, 'test', null)`, [acme.tenantId, acme.userId])
    await expect(client.query(call), call).rejects.toMatchObject({ code: 'BH001' })
    await client.query('rollback')
    client.release()
  }
})

test.each(['app_api', 'app_auth', 'app_worker', 'app_auditor', 'app_jobs'])(
  '%s cannot enter as an operator, nor call what operators may',
  async (role) => {
    const login = role.replace('app_', '') as 'api'
    const client = new pg.Client({ connectionString: it.database.urls[login] })
    await client.connect()
    for (const call of [
      `select app.enter_operator('\\x00', 'x', null)`,
      `select app.find_operator_credential('x')`,
      `select app.start_operator_session('${operatorId}', sha256('x'), sha256('x'), 'k', '1 hour', '1 hour', 'x', null, null)`,
      'select * from app.tenant_accounts',
      `select app.create_operator('eve@bulkhead.test', 'Eve', 'x')`,
    ]) {
      await expect(client.query(call), call).rejects.toMatchObject({ code: '42501' })
    }
    await client.end()
  },
)

describe('after a change in a tenant', () => {
  test('the transaction is outside it again', async () => {
    const seen = await asOperator(
      pool,
      { secret, requestId: 'test', address: null },
      { readOnly: false },
      async (db) => {
        await sql`select app.change_tenant(${acme.tenantId}, 'Acme', null, null)`.execute(db)
        const { rows } = await sql<{ tenant: string | null }>`select app.tenant_id() as tenant`.execute(db)
        return rows
      },
    )
    expect(seen).toEqual([{ tenant: null }])
  })

  test('a savepoint that is taken back leaves it outside, too', async () => {
    const client = new pg.Client({ connectionString: it.database.urls.operator })
    await client.connect()
    await client.query('begin')
    await client.query('select app.enter_operator($1, $2, null)', [secret, 'test'])
    await client.query('savepoint one')
    const failed = client.query(`select app.change_tenant($1, null, 'globex', null)`, [acme.tenantId])
    await expect(failed).rejects.toMatchObject({ code: '23505' })
    await client.query('rollback to savepoint one')
    const { rows } = await client.query('select app.tenant_id() as tenant')
    expect(rows).toEqual([{ tenant: null }])
    await client.end()
  })

  test('BH007: without its context a change is refused by the table itself', async () => {
    const client = await it.superuser.connect()
    await client.query('begin')
    await client.query(`select app.enter_operator($1, 'test', null)`, [secret])
    const change = client.query(`update app.tenants set name = 'x' where tenant_id = $1`, [acme.tenantId])
    await expect(change).rejects.toMatchObject({ code: 'BH007' })
    await client.query('rollback')
    client.release()
  })
})
