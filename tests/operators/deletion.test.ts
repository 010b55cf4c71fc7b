import { fork } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeVerifier, parseNote, publicKeyOf } from '../../src/audit/checkpoint.ts'
import { addKeys } from '../../src/audit/sealer.ts'
import { verifyDatabase } from '../../src/audit/verify-database.ts'
import { makePool } from '../../src/db/pool.ts'
import { diskStore } from '../../src/files/disk.ts'
import { eraseTenants } from '../../src/jobs/erasure.ts'
import { makePlatform, type Platform } from '../../src/jobs/platform.ts'
import { makeLogger } from '../../src/log.ts'
import { makeSigner, sealAll } from '../audit/seals.ts'
import { withClient } from '../databases.ts'
import { type Person, signIn, testEnvironment, world } from '../harness.ts'
import { asSystem } from '../sessions.ts'
import { makeOperator, type SignedInOperator, securityLog, signInOperator, verdict } from './stage.ts'

const it = world()
const signer = makeSigner()
let olga: SignedInOperator
let acme: Person
let worker: pg.Pool
let platform: Platform
/** Where their bytes are. */
let files: string

beforeAll(async () => {
  await makeOperator(it, 'olga@bulkhead.test')
  olga = await signInOperator(it, 'olga@bulkhead.test')
  acme = await it.as('owner', 'acme')
  worker = makePool(it.database.urls.worker, { max: 2, waitMs: 5000, name: 'worker', onError: () => {} })
  files = fileURLToPath(String(testEnvironment(it.database.urls).FILE_STORE))
  platform = makePlatform(worker, signer, diskStore(files))
  await addKeys(worker, [signer])
})
afterAll(() => worker.end())

let count = 0
/** A tenant of its own, with an owner who is signed in, and projects. */
const make = async (projects = 4): Promise<Person> => {
  count += 1
  const email = `owner@hooli-${count}.test`
  const password = 'a very large box of signatures'
  const body = { email, password, name: 'Gavin', tenant_name: `Hooli ${count}`, tenant_slug: `hooli-${count}` }
  const answer = await it.anybody.post('/auth/register', body)
  expect(answer.statusCode, answer.body).toBe(201)
  const owner = await signIn(it.anybody, it.client, email, password)
  for (let n = 0; n < projects; n += 1) {
    expect(
      (await owner.post('/projects', { name: `nucleus ${n}`, description: 'confidential-zebra' })).statusCode,
    ).toBe(201)
  }
  return owner
}

/** Its grace is over. */
const expire = (tenantId: string) =>
  asSystem(it.superuser, tenantId, `update app.tenants set erase_after = now() where tenant_id = $1`, [tenantId])

const doom = async (owner: Person): Promise<string> => {
  const answer = await olga.delete(`/tenants/${owner.tenantId}`)
  expect(answer.statusCode, answer.body).toBe(202)
  await expire(owner.tenantId)
  return owner.tenantId
}

const run = (signal = new AbortController().signal, by = platform) =>
  eraseTenants.run({} as never, {
    job: { id: randomUUID(), kind: eraseTenants.kind, attempt: 1 },
    ...{ platform: by, signal, log: makeLogger({ logLevel: 'silent' }), enqueue: async () => [] },
  })

/** By table, the rows of a tenant, in every table that has a tenant_id. */
const rowsOf = async (tenantId: string): Promise<Record<string, number>> => {
  const { rows: tables } = await it.superuser.query<{ name: string }>(
    `select format('%I.%I', n.nspname, c.relname) as name from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
      where a.attname = 'tenant_id' and c.relkind in ('r', 'p') and not c.relispartition`,
  )
  const found: Record<string, number> = {}
  for (const { name } of tables) {
    const { rows } = await it.superuser.query(`select count(*)::int as n from ${name} where tenant_id = $1`, [tenantId])
    if (rows[0].n > 0) found[name] = rows[0].n
  }
  return found
}

describe('DELETE', () => {
  test('202: marks a tenant, which is refused at once and keeps its rows; activated, it is as it was', async () => {
    const owner = await make()
    const before = await rowsOf(owner.tenantId)
    const answer = await olga.delete(`/tenants/${owner.tenantId}`, { 'if-match': '"1"' })

    expect([answer.statusCode, answer.json().status, answer.headers.etag]).toEqual([202, 'deleting', '"2"'])
    const { deletion_marked_at, erase_after } = answer.json()
    expect(Date.parse(erase_after) - Date.parse(deletion_marked_at)).toBe(30 * 86_400_000)
    expect(await securityLog(it, answer)).toEqual([
      expect.objectContaining({ event: 'tenant_deletion_marked', about_tenant_id: owner.tenantId }),
    ])
    expect(verdict(await owner.get('/projects'))).toEqual([403, 'tenant_suspended'])
    const again = await olga.delete(`/tenants/${owner.tenantId}`)
    expect(again.json().erase_after, 'marked again, it keeps its time').toBe(erase_after)
    expect(await platform.dueErasures(10)).toEqual([])

    const saved = await olga.post(`/tenants/${owner.tenantId}/activate`)
    expect(saved.json()).toMatchObject({ status: 'active', deletion_marked_at: null, erase_after: null })
    expect((await owner.get('/projects?count=exact')).json().total).toBe(4)
    const { 'app.audit_log': _log, ...kept } = await rowsOf(owner.tenantId)
    expect(before).toMatchObject(kept)
  })

  test('412 and 404: a version that is over, and no tenant', async () => {
    const owner = await make(0)
    expect(verdict(await olga.delete(`/tenants/${owner.tenantId}`, { 'if-match': '"7"' }))).toEqual([
      412,
      'precondition_failed',
    ])
    expect(verdict(await olga.delete(`/tenants/${randomUUID()}`))).toEqual([404, 'not_found'])
    expect(verdict(await olga.get(`/tenants/${owner.tenantId}/deletion-certificate`))).toEqual([404, 'not_found'])
    expect(verdict(await acme.delete(`/tenants/${owner.tenantId}`))).toEqual([401, 'unauthenticated'])
  })

  test('423: a tenant on legal hold is neither marked nor, when it was, erased, until the hold ends', async () => {
    const owner = await make(1)
    const held = await olga.put(`/tenants/${owner.tenantId}/legal-hold`, { reason: 'case 117' })
    expect(held.json()).toMatchObject({ legal_hold_reason: 'case 117', legal_hold_since: expect.any(String) })
    expect(await securityLog(it, held)).toEqual([expect.objectContaining({ event: 'legal_hold_set' })])
    expect((await owner.get('/projects')).statusCode, 'it goes on').toBe(200)
    expect(verdict(await olga.delete(`/tenants/${owner.tenantId}`))).toEqual([423, 'legal_hold'])

    const old = { 'if-match': '"777"' }
    const again = { reason: 'case 999' }
    expect(verdict(await olga.put(`/tenants/${owner.tenantId}/legal-hold`, again, old))).toEqual([
      412,
      'precondition_failed',
    ])
    expect(verdict(await olga.delete(`/tenants/${owner.tenantId}/legal-hold`, old))).toEqual([
      412,
      'precondition_failed',
    ])
    expect((await olga.get(`/tenants/${owner.tenantId}`)).json().legal_hold_reason).toBe('case 117')

    const released = await olga.delete(`/tenants/${owner.tenantId}/legal-hold`)
    expect([released.statusCode, (await securityLog(it, released))[0]?.event]).toEqual([204, 'legal_hold_released'])
    await doom(owner)
    await platform.eraseRows(owner.tenantId, 1)
    await olga.put(`/tenants/${owner.tenantId}/legal-hold`, { reason: 'case 118' })
    expect(await platform.dueErasures(10)).toEqual([])
    await expect(platform.eraseRows(owner.tenantId, 100)).rejects.toMatchObject({ code: 'BH015' })
    await expect(platform.certifyErasure(owner.tenantId)).rejects.toMatchObject({ code: 'BH015' })
    expect(await rowsOf(owner.tenantId)).toHaveProperty(['app.tenants'])

    await olga.delete(`/tenants/${owner.tenantId}/legal-hold`)
    expect(verdict(await olga.post(`/tenants/${owner.tenantId}/activate`))).toEqual([409, 'being_erased'])
    await run()
    expect(Object.keys(await rowsOf(owner.tenantId)).sort()).toEqual(['app.audit_log'])
  })

  test.each([{}, { reason: '' }, { reason: ' ' }, { reason: 'x'.repeat(1001) }, { reason: 'a\u0000b' }, { since: 1 }])(
    '400: a hold of %j',
    async (body) => {
      expect(verdict(await olga.put(`/tenants/${acme.tenantId}/legal-hold`, body))).toEqual([400, 'invalid'])
    },
  )
})

describe('erasing', () => {
  test('leaves no row in any table with a tenant_id but its audit log, and nothing of others is touched', async () => {
    const owner = await make(5)
    await owner.post('/api-keys', { name: 'k', permissions: ['projects:read'] }, { 'idempotency-key': 'one' })
    const { id: documentId } = (await owner.post('/documents', { title: 'with a file' })).json()
    expect((await owner.put(`/documents/${documentId}/file`, 'confidential-zebra')).statusCode).toBe(201)
    await acme.put(`/documents/${(await acme.post('/documents', { title: 'theirs' })).json().id}/file`, 'theirs')
    await writeFile(join(files, owner.tenantId, `${randomUUID()}.part`), 'never finished')
    const before = await rowsOf(owner.tenantId)
    const others = await rowsOf(acme.tenantId)
    const tenantId = await doom(owner)
    await run()

    expect(Object.keys(await rowsOf(tenantId))).toEqual(['app.audit_log'])
    expect(await rowsOf(acme.tenantId)).toEqual(others)
    expect(await readdir(files)).not.toContain(tenantId)
    expect(await readdir(join(files, acme.tenantId))).toHaveLength(1)
    expect((await acme.get('/projects')).statusCode).toBe(200)
    expect(verdict(await olga.get(`/tenants/${tenantId}`))).toEqual([404, 'not_found'])
    expect((await owner.get('/auth/memberships')).json().data, 'its people are nobody’s property').toEqual([])

    const certificate = (await olga.get(`/tenants/${tenantId}/deletion-certificate`)).json()
    const rows = Object.fromEntries(
      certificate.tables.map(({ name, rows }: { name: string; rows: number }) => [name, rows]),
    )
    for (const [name, n] of Object.entries(before)) {
      if (!name.startsWith('app.audit_')) expect(rows[name], name).toBe(n)
    }
    const note = parseNote(certificate.note)
    expect(note && makeVerifier([publicKeyOf(signer)])(note)).toBe('good')
    expect(createHash('sha256').update(String(note?.text)).digest('hex')).toBe(certificate.sha256)
    expect(note?.text).toContain(`bulkhead-deletion/v1/${tenantId}\nslug ${certificate.slug}\n`)
    expect(note?.text).toContain('\nrows app.projects 5\n')
    const forged = parseNote(certificate.note.replace('rows app.projects 5', 'rows app.projects 6'))
    expect(forged && makeVerifier([publicKeyOf(signer)])(forged)).toBe('bad')
  })

  test('no certificate while a file is left: the store is away, and the job is tried again', async () => {
    const tenantId = await doom(await make(1))
    const away = { ...platform, eraseFiles: () => Promise.reject(new Error('the store is away')) }
    await expect(run(undefined, away)).rejects.toThrow('the store is away')
    expect(await rowsOf(tenantId)).toHaveProperty(['app.tenants'], 1)
    await expect(makePlatform(worker, signer).eraseFiles(tenantId)).rejects.toThrow('there is no store of files')

    await run()
    expect(Object.keys(await rowsOf(tenantId))).toEqual(['app.audit_log'])
  })

  test('is in the audit log as numbers, and not once more as rows; the log stays whole', async () => {
    const owner = await make(2)
    const tenantId = await doom(owner)
    await run()

    const { rows } = await it.superuser.query(
      `select table_name, action, role, old_row, new_row from app.audit_log where tenant_id = $1 and role = 'eraser' and action = 'delete' order by xact, id`,
      [tenantId],
    )
    expect(rows).toContainEqual({
      ...{ table_name: 'projects', action: 'delete', role: 'eraser', old_row: null, new_row: { erased: 2 } },
    })
    for (const { old_row } of rows) expect(old_row).toBeNull()
    await sealAll(worker, signer)
    const findings: unknown[] = []
    await withClient(it.database.urls.owner, (client) =>
      verifyDatabase({ client, keys: [publicKeyOf(signer)], folder: undefined, tenant: undefined }, (finding) => {
        findings.push(finding)
      }),
    )
    expect(findings).toEqual([])
  })

  test('BH016: neither a tenant in its grace, nor an active one, nor none, alike', async () => {
    const owner = await make(1)
    await olga.delete(`/tenants/${owner.tenantId}`)
    const messages = new Set<string>()
    for (const id of [owner.tenantId, acme.tenantId, randomUUID()]) {
      for (const work of [platform.eraseRows(id, 10), platform.certifyErasure(id)]) {
        const refused = await work.catch((error) => error)
        expect(refused).toMatchObject({ code: 'BH016' })
        messages.add(refused.message)
      }
    }
    expect(messages.size).toBe(1)
    expect((await rowsOf(owner.tenantId))['app.projects']).toBe(1)
  })

  test('BH016: no certificate while a row is left', async () => {
    const tenantId = await doom(await make(3))
    await platform.eraseRows(tenantId, 1)
    await expect(platform.certifyErasure(tenantId)).rejects.toMatchObject({ code: 'BH016' })
    expect(await rowsOf(tenantId)).toHaveProperty(['app.tenants'], 1)
    await run()
  })

  test('goes on where it was, after a worker that was killed, while others write', async () => {
    const owner = await make(40)
    const tenantId = await doom(owner)
    const child = fork(join(import.meta.dirname, 'eraser-process.ts'), [it.database.urls.worker, tenantId])
    for (let batches = 0; batches < 4; batches += 1) {
      await once(child, 'message')
      expect((await acme.post('/projects', { name: `meanwhile ${batches}` })).statusCode).toBe(201)
    }
    child.kill('SIGKILL')
    await once(child, 'exit')
    const left = (await rowsOf(tenantId))['app.projects'] ?? 0
    expect(left).toBeGreaterThan(0)
    expect(left).toBeLessThan(40)

    await run()
    expect(Object.keys(await rowsOf(tenantId))).toEqual(['app.audit_log'])
    const { tables } = (await olga.get(`/tenants/${tenantId}/deletion-certificate`)).json()
    expect(tables, 'counted once, when it began').toContainEqual({ name: 'app.projects', rows: 40 })
    expect((await acme.get('/projects?name=meanwhile 3')).json().data).toHaveLength(1)
  })

  describe('a table that was added later', () => {
    const table = (name: string) => `
      set local role app_owner;
      create table app.${name} (
        tenant_id uuid not null default app.tenant_id(), id uuid not null default app.uuidv7(),
        project_id uuid not null, primary key (tenant_id, id),
        foreign key (tenant_id, project_id) references app.projects (tenant_id, id));
      alter table app.${name} enable row level security;
      alter table app.${name} force row level security;
      create policy wall on app.${name} as restrictive to public
        using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));
      select app.audit_table('app.${name}');`
    const fill = (name: string, { tenantId }: Person) =>
      asSystem(
        it.superuser,
        tenantId,
        `insert into app.${name} (tenant_id, project_id) select tenant_id, id from app.projects where tenant_id = $1`,
        [tenantId],
      )

    test('is erased too, before what it refers to, and stands on the certificate', async () => {
      await it.superuser.query(`begin; ${table('milestones')} select app.make_erasable(); commit`)
      const owner = await make(2)
      await fill('milestones', owner)
      const tenantId = await doom(owner)
      await run()

      expect(Object.keys(await rowsOf(tenantId))).toEqual(['app.audit_log'])
      const { tables } = (await olga.get(`/tenants/${tenantId}/deletion-certificate`)).json()
      expect(tables).toContainEqual({ name: 'app.milestones', rows: 2 })
    })

    test('and that nobody made erasable is not passed over: nothing is certified, until it is', async () => {
      await it.superuser.query(`begin; ${table('forgotten')} commit`)
      const owner = await make(1)
      await fill('forgotten', owner)
      const tenantId = await doom(owner)

      await expect(run()).rejects.toMatchObject({ code: '42501', message: expect.stringContaining('forgotten') })
      expect(verdict(await olga.get(`/tenants/${tenantId}/deletion-certificate`))).toEqual([404, 'not_found'])
      await it.superuser.query('begin; set local role app_owner; select app.make_erasable(); commit')
      await run()
      expect(Object.keys(await rowsOf(tenantId))).toEqual(['app.audit_log'])
    })
  })

  test('the policy that lets rows go is good while a tenant is erased, and at no other time', async () => {
    const client = await it.superuser.connect()
    await client.query('begin')
    await client.query(`select app.seal($1, 'system', null, 'system', null, 'test', null)`, [acme.tenantId])
    await client.query('set local role app_gate')
    const { rowCount } = await client.query('delete from app.projects')
    await client.query('rollback')
    client.release()
    expect(rowCount).toBe(0)
  })

  test('a role that a tenant calls eraser erases nothing unseen', async () => {
    const client = await it.superuser.connect()
    await client.query('begin')
    await client.query(`select app.seal($1, 'user', $2, 'eraser', null, 'test', null)`, [acme.tenantId, acme.userId])
    const { rows } = await client.query(
      `with gone as (delete from app.projects where tenant_id = $1 returning name) select app.is_erasing() as erasing, count(*)::int as n from gone`,
      [acme.tenantId],
    )
    const { rows: log } = await client.query(
      `select old_row ->> 'name' as name from app.audit_log where request_id = 'test' and role = 'eraser'`,
    )
    await client.query('rollback')
    client.release()
    expect(rows[0].erasing).toBe(false)
    expect(log.length).toBe(rows[0].n)
    for (const { name } of log) expect(name).not.toBeNull()
  })

  test('its audit log is kept as long as the certificate says, and holds up no month afterwards', async () => {
    const tenantId = await doom(await make(0))
    await run()
    const why = async () => {
      const { rows } = await it.superuser.query('select app.why_tenants_keep(array[$1::uuid], now()) as it', [tenantId])
      return rows[0].it
    }
    const { audit_until, slug } = (await olga.get(`/tenants/${tenantId}/deletion-certificate`)).json()
    expect(Date.parse(audit_until)).toBeGreaterThan(Date.now() + 364 * 86_400_000)
    expect(await why()).toBe(`the log of the erased tenant ${slug} is kept until ${audit_until.slice(0, 10)}`)
    await it.superuser.query('update app.deletion_certificates set audit_until = now() where id = $1', [tenantId])
    expect(await why()).toBeNull()
  })
})
