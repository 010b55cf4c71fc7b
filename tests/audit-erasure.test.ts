/** What the audit log says about a person: kept under their key, read by those who may, and gone with the key. */
import { execFile } from 'node:child_process'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { publicKeyOf } from '../src/audit/checkpoint.ts'
import { addKeys } from '../src/audit/sealer.ts'
import type { Finding } from '../src/audit/verify.ts'
import { verifyExport } from '../src/audit/verify-export.ts'
import { makePool } from '../src/db/pool.ts'
import { makeSigner, sealAll } from './audit/seals.ts'
import { settled } from './audit-entries.ts'
import { type Person, world } from './harness.ts'
import { asSystem } from './sessions.ts'

const it = world()
const signer = makeSigner()
let worker: pg.Pool
let acme: Person
let globex: Person

beforeAll(async () => {
  worker = makePool(it.database.urls.worker, { max: 1, waitMs: 5000, name: 'seal test', onError: () => {} })
  await addKeys(worker, [signer])
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
  // a tenant's table as a migration makes it, with columns that are a person's
  await it.superuser.query(`
    set role app_owner;
    create table app.contacts (
      tenant_id  uuid not null default app.tenant_id(),
      id         uuid not null default app.uuidv7(),
      user_id    uuid,
      email      text,
      "Full name" text,
      extra      jsonb,
      pin        text,
      status     text not null default 'active',
      primary key (tenant_id, id)
    );
    alter table app.contacts enable row level security, force row level security;
    create policy wall on app.contacts as restrictive to public
      using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));
    select app.audit_table('app.contacts', 'pin', 'personal', 'user_id', 'email', 'Full name', 'extra');
    reset role`)
})

afterAll(() => worker.end())

type Contact = { user_id: string | null; email?: string; name?: string; extra?: object; pin?: string }

const add = async (tenantId: string, { user_id, email, name, extra, pin }: Contact): Promise<string> => {
  const id = randomUUID()
  await asSystem(
    it.superuser,
    tenantId,
    'insert into app.contacts (tenant_id, id, user_id, email, "Full name", extra, pin) values ($1, $2, $3, $4, $5, $6, $7)',
    [tenantId, id, user_id, email ?? null, name ?? null, extra ?? null, pin ?? null],
  )
  return id
}

const change = (tenantId: string, id: string, column: string, value: string | null) =>
  asSystem(it.superuser, tenantId, `update app.contacts set "${column}" = $2 where id = $1`, [id, value])

const entriesOf = async (person: Person, id: string) =>
  (await person.get(`/audit/logs?row_id=${id}&sort=at&limit=100`)).json().data

/** The log as it stands in the table, to the byte. */
const stored = async (condition = 'true') => {
  const { rows } = await it.superuser.query<{ id: string; text: string }>(
    `select id, l::text || ' ' || app.audit_entry(l) as text from app.audit_log l where ${condition} order by id`,
  )
  return rows
}

const forget = (...args: string[]) =>
  new Promise<{ code: number | string | null | undefined; stdout: string; stderr: string }>((done) => {
    const cli = new URL('../src/cli.ts', import.meta.url).pathname
    const env = { DATABASE_OWNER_URL: it.database.urls.owner }
    execFile(process.execPath, [cli, 'audit', 'forget', ...args], { env, cwd: tmpdir() }, (error, stdout, stderr) => {
      done({ code: error ? error.code : 0, stdout, stderr })
    })
  })

/** Every file of the database's tables and indexes that holds these bytes, dead rows included. */
const filesWith = async (bytes: Buffer): Promise<string[]> => {
  await it.superuser.query('checkpoint')
  const { rows } = await it.superuser.query<{ name: string }>(
    `select oid::regclass::text as name from pg_class
      where relkind in ('r', 'i', 't', 'S') and pg_relation_filenode(oid) is not null
        and position($1::bytea in pg_read_binary_file(pg_relation_filepath(oid))) > 0 order by 1`,
    [bytes],
  )
  return rows.map(({ name }) => name)
}

/** Every table that shows it, as text or as hex, to somebody whom no wall binds: what a dump would have. */
const tablesWith = async (text: string): Promise<string[]> => {
  const { rows: tables } = await it.superuser.query<{ name: string }>(
    `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema') order by 1`,
  )
  expect(tables.length).toBeGreaterThan(20)
  const found: string[] = []
  for (const { name } of tables) {
    const { rows } = await it.superuser.query(
      `select from ${name} t where position($1 in t::text) > 0 or position($2 in t::text) > 0 limit 1`,
      [text, Buffer.from(text).toString('hex')],
    )
    if (rows.length > 0) found.push(name)
  }
  return found
}

/** An export of a tenant's log, now or as it was, held against the checkpoints of now. */
const verified = async (person: Person, text?: string) => {
  const folder = mkdtempSync(join(tmpdir(), 'bulkhead-export-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const [file, checkpoints] = [join(folder, 'export.ndjson'), join(folder, 'checkpoints.json')]
  const checkpointsNow = await person.get('/audit/checkpoints?limit=100')
  const body = text ?? (await person.get('/audit/export')).body
  writeFileSync(file, body)
  writeFileSync(checkpoints, checkpointsNow.body)
  const findings: Finding[] = []
  const totals = await verifyExport({ file, checkpoints: [checkpoints], keys: [publicKeyOf(signer)] }, (finding) => {
    findings.push(finding)
  })
  return { ...totals, findings, text: body }
}

describe('personal columns', () => {
  test('are read in the log as they were, in every image; in the table they stand concealed', async () => {
    const email = `ada-${randomUUID()}@example.com`
    const id = await add(acme.tenantId, {
      user_id: acme.userId,
      email,
      name: 'Ada',
      extra: { born: 1815 },
      pin: '1815',
    })
    await change(acme.tenantId, id, 'email', `new-${email}`)
    await change(acme.tenantId, id, 'email', null)
    await change(acme.tenantId, id, 'email', '')
    await asSystem(it.superuser, acme.tenantId, 'delete from app.contacts where id = $1', [id])

    const entries = await entriesOf(acme, id)

    const images = entries.map(({ old_row, new_row }: { old_row: object | null; new_row: object | null }) =>
      [old_row, new_row].map((row) => row && [(row as Contact).email, (row as Record<string, string>)['Full name']]),
    )
    expect(images).toEqual([
      [null, [email, 'Ada']],
      [
        [email, 'Ada'],
        [`new-${email}`, 'Ada'],
      ],
      [
        [`new-${email}`, 'Ada'],
        [null, 'Ada'],
      ],
      [
        [null, 'Ada'],
        ['', 'Ada'],
      ],
      [['', 'Ada'], null],
    ])
    expect(Object.keys(entries[0].new_row).sort()).toEqual(
      ['tenant_id', 'id', 'user_id', 'email', 'Full name', 'extra', 'pin', 'status'].sort(),
    )
    expect(entries[0].new_row).toMatchObject({ extra: '{"born": 1815}', pin: '[redacted]', status: 'active' })
    expect(await tablesWith(email)).toEqual([])
  })

  test('of an update that names another person: each image under its own person’s key', async () => {
    const [before, after] = [randomUUID(), randomUUID()]
    const id = await add(acme.tenantId, { user_id: before, email: 'before@example.com' })
    await asSystem(
      it.superuser,
      acme.tenantId,
      `update app.contacts set user_id = $2, email = 'after@example.com' where id = $1`,
      [id, after],
    )
    const images = async () => {
      const [, updated] = await entriesOf(acme, id)
      return [updated.old_row.email, updated.new_row.email]
    }
    expect(await images()).toEqual(['before@example.com', 'after@example.com'])

    await forget('--person', before, '--reason', 'asked to')
    expect(await images()).toEqual(['[erased]', 'after@example.com'])
    await forget('--person', after, '--reason', 'asked to')
    expect(await images()).toEqual(['[erased]', '[erased]'])
  })

  test('of nobody are under the key of their tenant', async () => {
    const id = await add(acme.tenantId, { user_id: null, email: 'nobody@example.com' })

    expect((await entriesOf(acme, id))[0].new_row.email).toBe('nobody@example.com')
    expect(await forget('--person', acme.tenantId, '--reason', 'a mistake')).toMatchObject({
      code: 1,
      stderr: "this id is a tenant's, and no person's\n",
    })
    expect((await entriesOf(acme, id))[0].new_row.email).toBe('nobody@example.com')
  })

  test('a value that somebody wrote is shown as it is, though it looks like a concealed one', async () => {
    const lookalike = { personal_to: 'x', value: 'no hex' }
    const id = randomUUID()
    await it.superuser.query('alter table app.contacts add column settings jsonb')
    await asSystem(
      it.superuser,
      acme.tenantId,
      'insert into app.contacts (tenant_id, id, settings) values (app.tenant_id(), $1, $2)',
      [id, { ...lookalike, '@personal': ['settings'] }],
    )

    const [entry] = await entriesOf(acme, id)

    expect(entry.new_row.settings).toEqual({ ...lookalike, '@personal': ['settings'] })
  })

  test('what was asked of the log is shown as it was asked, however it looks', async () => {
    const request = { '@personal': ['query'], query: { personal_to: 'x', value: 'no hex' } }
    const client = await it.superuser.connect()
    await client.query('begin')
    await client.query(`select app.seal($1, 'user', $2, 'owner', null, 'req-forged', null)`, [
      acme.tenantId,
      acme.userId,
    ])
    await client.query('set local role app_api')
    await client.query(`select app.audit_read('audit_log', $1)`, [request])
    await client.query('commit')
    client.release()

    const answer = await acme.get('/audit/logs?request_id=req-forged')
    await settled(it.superuser)
    const exported = await acme.get('/audit/export?request_id=req-forged')

    expect(answer.json().data.map(({ new_row }: { new_row: object }) => new_row)).toEqual([request])
    expect(JSON.parse(exported.body)).toMatchObject({ personal: {}, entry: { new_row: request } })
  })

  test('any text comes back: conceal and reveal, in every length and script', async () => {
    const unit = fc.oneof(
      fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
      fc.constantFrom('À', '€', '\u0080', '🚀'),
    )
    const text = fc
      .array(unit, { maxLength: 100 })
      .map((units) => units.join(''))
      .filter((value) => !value.includes('\0') && value.isWellFormed())
    const edges = [0, 1, 30, 31, 32, 33, 63, 64, 65, 10_000].flatMap((n) => [
      'x'.repeat(n),
      `${'x'.repeat(Math.max(0, n - 2))}À`,
    ])

    const check = async (values: string[]) => {
      const key = randomBytes(32)
      const { rows } = await it.superuser.query<{ value: string; back: string; bytes: Buffer }>(
        `select value, app.conceal($1, 'new_row.email', value) as bytes,
                app.reveal($1, 'new_row.email', app.conceal($1, 'new_row.email', value)) as back
           from unnest($2::text[]) value`,
        [key, values],
      )
      expect(rows.map(({ value }) => value)).toEqual(values)
      for (const { value, back, bytes } of rows) {
        expect(back).toBe(value)
        expect(bytes.equals(concealed(key, 'new_row.email', value))).toBe(true)
      }
    }
    await check(edges)
    await fc.assert(fc.asyncProperty(fc.array(text, { minLength: 1, maxLength: 50 }), check), { numRuns: 60 })
  })
})

/** The same by its description (sql/migrations/0003_audit_log.sql), and not by its code. */
const concealed = (key: Buffer, field: string, value: string): Buffer => {
  const text = Buffer.from(value)
  const padded = Buffer.concat([text, Buffer.from([0x80]), Buffer.alloc(31 - (text.length % 32))])
  for (let block = 0; block < padded.length / 32; block += 1) {
    const stream = createHash('sha256').update(key).update(`${field}|${block}`).digest()
    for (const [index, byte] of stream.entries()) padded[block * 32 + index] = (padded[block * 32 + index] ?? 0) ^ byte
  }
  return padded
}

describe('audit forget', () => {
  test('erases a person from the log of every tenant, changes no byte of it, and leaves no copy of the key', async () => {
    const person = await it.as('member', 'acme')
    const email = `canary-${randomUUID()}@example.com`
    const mine = await add(acme.tenantId, { user_id: person.userId, email, name: 'Canary' })
    const theirs = await add(globex.tenantId, { user_id: person.userId, email })
    const other = await add(acme.tenantId, { user_id: acme.userId, email: 'other@example.com' })
    const made = (await person.post('/projects', { name: `by ${person.userId}` })).json()
    await asSystem(it.superuser, acme.tenantId, 'delete from app.contacts where id = $1', [mine])
    await asSystem(it.superuser, globex.tenantId, 'delete from app.contacts where id = $1', [theirs])
    await it.superuser.query('vacuum (full) app.contacts')
    const keyOf = async (id: string) =>
      (await it.superuser.query('select key from app.personal_keys where subject_id = $1', [id])).rows[0].key as Buffer
    const key = await keyOf(person.userId)
    const others = await keyOf(acme.userId)
    expect(await filesWith(key)).toEqual(['app.personal_keys'])
    await sealAll(worker, signer)
    const before = await stored()
    const exported = await verified(acme)
    expect(exported.findings).toEqual([])
    expect(exported.text).toContain(email)

    const { code, stdout } = await forget('--person', person.email.toUpperCase(), '--reason', 'ticket 4711')

    expect(code).toBe(0)
    expect(stdout).toBe(`${person.userId}: erased from the audit log\n`)
    const after = new Map((await stored()).map(({ id, text }) => [id, text]))
    expect(before.length).toBeGreaterThan(20)
    for (const { id, text } of before) expect(after.get(id)).toBe(text)

    expect(await tablesWith(email)).toEqual([])
    expect(await filesWith(Buffer.from(email))).toEqual([])
    expect(await filesWith(key)).toEqual([])
    expect(await filesWith(others)).toEqual(['app.personal_keys'])

    const [[inserted, deleted], [elsewhere], [untouched], [byThem]] = await Promise.all([
      entriesOf(acme, mine),
      entriesOf(globex, theirs),
      entriesOf(acme, other),
      entriesOf(acme, made.id),
    ])
    expect(inserted.new_row).toMatchObject({ user_id: person.userId, email: '[erased]', 'Full name': '[erased]' })
    expect(deleted.old_row).toMatchObject({ user_id: person.userId, email: '[erased]' })
    expect(elsewhere.new_row).toMatchObject({ email: '[erased]' })
    expect(untouched.new_row).toMatchObject({ email: 'other@example.com' })
    expect(byThem).toMatchObject({ address: '[erased]', actor_id: person.userId, action: 'insert' })

    // seals hold: of the log as it is now, and of what was exported before, in which the values still are
    const again = await verified(acme)
    expect(again).toMatchObject({ findings: [], verified: exported.verified })
    expect(again.text).not.toContain(email)
    expect(await verified(acme, exported.text)).toMatchObject({ findings: [], verified: exported.verified })
    expect(await verified(acme, exported.text.replaceAll(email, 'somebody.else@example.com'))).toMatchObject({
      findings: [{ problem: 'opening_false' }],
    })

    await settled(it.superuser)
    const lines = (await acme.get(`/audit/export?row_id=${mine}`)).body.trim().split('\n')
    expect(lines.map((line) => JSON.parse(line).personal)).toEqual([{}, {}])
    const csv = (await acme.get(`/audit/export?format=csv&row_id=${mine}`)).body
    expect(csv).toContain('[erased]')
  })

  test('what is written about them later is not kept either', async () => {
    const person = await it.as('admin', 'acme')
    const email = `later-${randomUUID()}@example.com`
    await forget('--person', person.userId, '--reason', 'ticket 4712')

    const id = await add(acme.tenantId, { user_id: person.userId, email })
    await change(acme.tenantId, id, 'status', 'left')
    const made = (await person.post('/projects', { name: `later ${email}` })).json()

    const [inserted, updated] = await entriesOf(acme, id)
    expect(inserted.new_row.email).toBe('[erased]')
    expect([updated.old_row.email, updated.new_row.email]).toEqual(['[erased]', '[erased]'])
    expect(updated.new_row.status).toBe('left')
    expect((await entriesOf(acme, made.id))[0].address).toBeNull()
    for (const { text } of await stored(`row_id = '${id}'`)) {
      expect(text).toContain(`{"value": null, "personal_to": "${person.userId}"}`)
      expect(text).not.toContain(email)
    }
  })

  test('stands in the security log with its reason, and not with the address', async () => {
    const person = await it.as('manager', 'globex')
    await person.post('/projects', { name: 'by somebody with a key' })
    await forget('--person', person.email, '--reason', 'ticket 4713')
    await forget('--person', person.userId, '--reason', 'again, after a restore')

    const { rows } = await it.superuser.query(
      `select event, detail ->> 'reason' as reason, detail ->> 'had_key' as had from app.security_log
        where user_id = $1 and event = 'person_erased' order by at`,
      [person.userId],
    )
    expect(rows).toEqual([
      { event: 'person_erased', reason: 'ticket 4713', had: 'true' },
      { event: 'person_erased', reason: 'again, after a restore', had: 'false' },
    ])
    const { rows: texts } = await it.superuser.query(
      `select l::text as text from app.security_log l where event = 'person_erased'`,
    )
    for (const { text } of texts) expect(text).not.toContain('@')
  })

  test('of somebody who is not known: an address is refused, an id is kept as erased', async () => {
    const id = randomUUID()

    expect(await forget('--person', 'nobody@example.com', '--reason', 'x')).toMatchObject({
      code: 1,
      stderr: 'nobody has this e-mail address\n',
    })
    expect(await forget('--person', id, '--reason', 'x')).toMatchObject({
      code: 0,
      stdout: `${id}: there was no key, and there will be none\n`,
    })
    const entry = (await entriesOf(acme, await add(acme.tenantId, { user_id: id, email: 'x@example.com' })))[0]
    expect(entry.new_row.email).toBe('[erased]')
  })

  test.each([[[]], [['--person', 'a@b.example']], [['--reason', 'x']], [['--person', 'a@b.example', '--reason', ' ']]])(
    'with %j it says what it needs, exit code 2',
    async (args) => {
      expect(await forget(...args)).toMatchObject({ code: 2, stderr: 'audit forget needs --person and --reason\n' })
    },
  )

  test('is nobody’s but the owner’s: no login role can do it', async () => {
    for (const role of ['app_api', 'app_worker', 'app_auth', 'app_operator', 'app_auditor', 'app_jobs']) {
      const { rows } = await it.superuser.query(
        `select has_function_privilege($1, 'app.forget_person(text, text)', 'execute') as forget,
                has_function_privilege($1, 'app.destroy_personal_key(uuid)', 'execute') as destroy`,
        [role],
      )
      expect(rows, role).toEqual([{ forget: false, destroy: false }])
    }
  })
})
