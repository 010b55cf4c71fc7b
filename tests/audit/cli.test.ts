import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { inclusionPath } from '../../src/audit/merkle.ts'
import { publishCheckpoints } from '../../src/audit/publish.ts'
import { folderSink } from '../../src/audit/sinks.ts'
import { auditStage } from './stage.ts'

const it = auditStage()
const cli = new URL('../../src/cli.ts', import.meta.url).pathname
let folder: string
let [key, checkpoints, log, kept, proof] = ['', '', '', '', '']

const run = (args: string[], env: Record<string, string> = {}) =>
  new Promise<{ code: number | string | null | undefined; stdout: string; stderr: string }>((done) => {
    execFile(process.execPath, [cli, 'audit', ...args], { env: { ...env }, cwd: tmpdir() }, (error, stdout, stderr) => {
      done({ code: error ? error.code : 0, stdout, stderr })
    })
  })

const keysVariable = () => JSON.stringify([{ ...it.signer.privateKey.export({ format: 'jwk' }), kid: it.signer.id }])

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'audit-cli-'))
  ;[key, checkpoints, log, kept, proof] = ['key.json', 'checkpoints.json', 'log.ndjson', 'kept', 'proof.json'].map(
    (name) => join(folder, name),
  ) as [string, string, string, string, string]
  await it.write(it.acme, 3)
  await it.seal()
  await it.write(it.acme, 4)
  await it.write(it.globex, 2)
  await it.seal()
  const one = async <T>(sql: string, values: unknown[] = []) => (await it.superuser.query(sql, values)).rows as T[]
  const lines = await one<{ line: string }>(
    `select '{"personal": {}, "entry": ' || app.audit_entry(l) || '}' as line from app.audit_log l where tenant_id = $1 order by xact, id`,
    [it.acme],
  )
  const notes = await one<{ checkpoint: string }>(
    'select app.checkpoint_note(s) as checkpoint from app.audit_seals s where tenant_id = $1 order by batch desc',
    [it.acme],
  )
  await writeFile(log, lines.map(({ line }) => `${line}\n`).join(''))
  await writeFile(checkpoints, JSON.stringify({ data: notes, next_cursor: null }))
  const leaves = await one<{ leaf: Buffer; entry: string }>(
    `select app.audit_leaf(l) as leaf, app.audit_entry(l) as entry from app.audit_log l
       join app.audit_seals s on s.tenant_id = l.tenant_id and s.batch = 2 and l.xact >= s.from_xact and l.xact < s.to_xact
      where l.tenant_id = $1 order by l.xact, l.id`,
    [it.acme],
  )
  const path = inclusionPath(1, Buffer.concat(leaves.map(({ leaf }) => leaf))).map((hash) => hash.toString('hex'))
  const checkpoint = notes[0]?.checkpoint
  const { id } = JSON.parse(leaves[1]?.entry ?? '{}')
  const answer = { id, entry: leaves[1]?.entry, leaf_index: 1, tree_size: leaves.length, path, checkpoint }
  await writeFile(proof, JSON.stringify(answer))
  await publishCheckpoints(it.worker, folderSink(kept), new AbortController().signal)
  await writeFile(key, (await run(['keys'], { AUDIT_KEYS: keysVariable() })).stdout)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const database = () => ({ DATABASE_OWNER_URL: it.database.urls.owner })

test('keys: prints the public halves, and nothing private', async () => {
  const { code, stdout } = await run(['keys'], { AUDIT_KEYS: keysVariable() })
  const { d } = it.signer.privateKey.export({ format: 'jwk' })

  expect(code).toBe(0)
  expect(JSON.parse(stdout)).toEqual({
    keys: [{ ...it.signer.publicKey.export({ format: 'jwk' }), kid: 'test-1', alg: 'EdDSA', use: 'sig' }],
  })
  expect(stdout).not.toContain(d)
  expect(await run(['keys'])).toMatchObject({ code: 2, stderr: expect.stringMatching(/^AUDIT_KEYS is missing/) })
})

describe('verify --export', () => {
  test('0: a whole export, without any variable or database', async () => {
    const { code, stdout, stderr } = await run(['verify', '--export', log, '--checkpoint', checkpoints, '--key', key])
    expect(stderr).toBe('')
    expect(stdout).toMatch(
      /^\d+ entries of tenant \S+ in 2 batches, \d+ with something personal that was erased, or left out of the export: nothing is wrong\n$/,
    )
    expect(code).toBe(0)
  })

  test('1: what is wrong, in which tenant and batch', async () => {
    const forged = join(folder, 'forged.ndjson')
    await writeFile(forged, (await readFile(log, 'utf8')).replace('"action": "insert"', '"action": "select"'))
    const { code, stdout } = await run(['verify', '--export', forged, '--checkpoint', checkpoints, '--key', key])
    expect(code).toBe(1)
    expect(stdout).toMatch(
      new RegExp(
        `^entry_changed: tenant ${it.acme}, batch 1: its \\d+ entries are not those that were sealed\n.*: 1 things are wrong\n$`,
      ),
    )
  })

  test('0, or 1 when it is asked: entries behind the last checkpoint', async () => {
    const older = join(folder, 'older.json')
    const page = JSON.parse(await readFile(checkpoints, 'utf8'))
    await writeFile(older, JSON.stringify({ data: page.data.slice(1) }))
    const args = ['verify', '--export', log, '--checkpoint', older, '--key', key]

    const lenient = await run(args)
    const strict = await run([...args, '--sealed'])

    expect(lenient).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('4 more are not sealed yet: nothing is wrong'),
    })
    expect(strict).toMatchObject({ code: 1, stdout: lenient.stdout })
  })
})

describe('verify --database', () => {
  test('0: every tenant, beside what was kept outside; as the login that migrates', async () => {
    const { code, stdout, stderr } = await run(
      ['verify', '--database', '--key', key, '--checkpoints', kept],
      database(),
    )
    expect(stderr).toBe('')
    expect(stdout).toMatch(
      /^\d+ entries of 2 tenants in 4 batches, beside 4 checkpoints that were kept: nothing is wrong\n$/,
    )
    expect(code).toBe(0)
  })

  test('0: one tenant, by its slug; an unknown one is said', async () => {
    const { code, stdout } = await run(['verify', '--database', '--key', key, '--tenant', 'globex'], database())
    expect(stdout).toMatch(/^\d+ entries of 1 tenants in 2 batches: nothing is wrong\n$/)
    expect(code).toBe(0)
    expect(await run(['verify', '--database', '--key', key, '--tenant', 'initech'], database())).toMatchObject({
      code: 1,
      stderr: 'there is no tenant initech\n',
    })
  })

  test('1: what is wrong, by the name of the tenant', async () => {
    await it.superuser.query(`
      alter table app.audit_log disable trigger append_only;
      update app.audit_log set role = 'nobody' where tenant_id = '${it.globex}';
      alter table app.audit_log enable always trigger append_only`)
    const { code, stdout } = await run(['verify', '--database', '--key', key], database())
    expect(code).toBe(1)
    expect(stdout).toContain(`entry_changed: tenant globex (${it.globex}), batch 2: its`)
    expect(stdout).not.toContain('acme')
  })

  test('1: a database that is not migrated, and a login that may not: a line each', async () => {
    const empty = new URL(it.database.urls.superuser)
    empty.pathname = '/template1'
    const as = (url: string) => run(['verify', '--database', '--key', key], { DATABASE_OWNER_URL: url })
    expect(await as(empty.href)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^nothing can be verified here \(.*\): is this database migrated\? .*\n$/),
    })
    expect(await as(it.database.urls.worker)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^nothing can be verified here \(.*\): it is verified by a superuser, or .*\n$/),
    })
  })

  test('1: nobody answers', async () => {
    const nowhere = { DATABASE_OWNER_URL: 'postgres://postgres:secret@127.0.0.1:1/nowhere' }
    const { code, stderr } = await run(['verify', '--database', '--key', key], nowhere)
    expect(code).toBe(1)
    expect(stderr).toBe('DATABASE_OWNER_URL cannot be reached: connect ECONNREFUSED 127.0.0.1:1\n')
  })
})

describe('verify --proof', () => {
  test('0: an entry that was sealed; 1: another in its place', async () => {
    const forged = join(folder, 'forged.json')
    await writeFile(forged, (await readFile(proof, 'utf8')).replace('insert', 'select'))
    expect(await run(['verify', '--proof', proof, '--key', key])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(new RegExp(`^verified: entry \\S+ of tenant ${it.acme} was sealed`)),
    })
    expect(await run(['verify', '--proof', forged, '--key', key])).toMatchObject({
      code: 1,
      stdout: `broken: the entry is not the one at 1 of batch 2 of tenant ${it.acme}\n`,
    })
    expect(await run(['verify', '--proof', key, '--key', key])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('is no answer of GET /audit/proof/{id}'),
    })
  })
})

test('1: a proof that names another entry than the one that it proves', async () => {
  const other = join(folder, 'other.json')
  const { id, ...rest } = JSON.parse(await readFile(proof, 'utf8'))
  await writeFile(other, JSON.stringify({ id: '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11', ...rest }))
  expect(await run(['verify', '--proof', other, '--key', key])).toMatchObject({
    code: 1,
    stdout: `broken: its id is not that of its entry, ${id}\n`,
  })
  await writeFile(other, JSON.stringify(rest))
  expect(await run(['verify', '--proof', other, '--key', key])).toMatchObject({ code: 0 })
})

test.each([
  [[], 'audit : npm run cli -- help audit says what there is'],
  [['conquer'], 'audit conquer: npm run cli -- help audit says what there is'],
  [['verify'], 'one of --export FILE, --database and --proof FILE is to be given'],
  [
    ['verify', '--database', '--export', 'x', '--key', 'x'],
    'one of --export FILE, --database and --proof FILE is to be given',
  ],
  [['verify', '--database'], '--key is missing: npm run cli -- help audit'],
  [['verify', '--export', 'x', '--key', 'x'], '--checkpoint is missing: npm run cli -- help audit'],
  [['verify', '--proof', 'x', '--key', 'x', '--tenant', 'x'], '--tenant does not go with --proof'],
  [['keys', '--all'], 'audit keys takes no options'],
])('2: %j', async (args, message) => {
  expect(await run(args)).toMatchObject({ code: 2, stdout: '', stderr: `${message}\n` })
})

test('2: files that are not there are said', async () => {
  const given = (name: string) =>
    ['--export', log, '--checkpoint', checkpoints, '--key', key].map((each, at, all) =>
      all[at - 1] === name ? '/nowhere' : each,
    )
  for (const name of ['--export', '--checkpoint', '--key']) {
    expect(await run(['verify', ...given(name)]), name).toMatchObject({
      code: 2,
      stderr: '/nowhere cannot be read (ENOENT)\n',
    })
  }
  expect(await run(['verify', '--database', '--key', key, '--checkpoints', '/nowhere'], database())).toMatchObject({
    code: 2,
    stderr: 'there is no folder /nowhere\n',
  })
})

describe('2: a place without checkpoints proves nothing', () => {
  const folderWith = async (name: string, content?: string): Promise<string> => {
    const path = join(folder, name)
    await mkdir(path)
    if (content !== undefined) await writeFile(join(path, 'first.ndjson'), content)
    return path
  }
  const beside = (path: string, ...more: string[]) =>
    run(['verify', '--database', '--key', key, '--checkpoints', path, ...more], database())

  test('a folder that is empty, or is a file, or whose files hold none', async () => {
    const said = (path: string) => ({
      code: 2,
      stdout: '',
      stderr: `no file in ${path} holds a checkpoint: it proves nothing\n`,
    })
    for (const path of [await folderWith('empty'), log, await folderWith('answers', '{"data": []}\n')]) {
      expect(await beside(path), path).toMatchObject(said(path))
    }
    const blank = await folderWith('blank', '\n')
    expect(await beside(blank)).toMatchObject({
      code: 2,
      stderr: `${join(blank, 'first.ndjson')} holds no checkpoints\n`,
    })
  })

  test('a folder that has none of the one tenant that is asked for', async () => {
    const notes = JSON.parse(await readFile(checkpoints, 'utf8')).data as object[]
    const foreign = await folderWith('foreign', notes.map((note) => `${JSON.stringify(note)}\n`).join(''))
    expect(await beside(foreign, '--tenant', 'globex')).toMatchObject({
      code: 2,
      stderr: `no file in ${foreign} holds a checkpoint of tenant globex: it proves nothing\n`,
    })
    expect(await beside(foreign, '--tenant', 'acme')).toMatchObject({ code: 0 })
  })

  test('for an export: files without any, beside others too, and those of other tenants', async () => {
    const offline = (...files: string[]) =>
      run(['verify', '--export', log, ...files.flatMap((file) => ['--checkpoint', file]), '--key', key])
    const [blank, none] = [join(folder, 'blank.json'), join(folder, 'none.json')]
    await writeFile(blank, '')
    await writeFile(none, '{"data": []}')

    expect(await offline(none)).toMatchObject({
      code: 2,
      stderr: 'there are no checkpoints in the files that were given\n',
    })
    expect(await offline(checkpoints, blank)).toMatchObject({ code: 2, stderr: `${blank} holds no checkpoints\n` })
    expect(await offline(checkpoints, none)).toMatchObject({ code: 0 })
    const strangers = join(folder, 'strangers.json')
    const text = await readFile(checkpoints, 'utf8')
    const others = [it.globex, '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11'].map((id) => text.replaceAll(it.acme, id))
    await writeFile(strangers, others.map((page) => `${page}\n`).join(''))
    expect(await offline(strangers)).toMatchObject({
      code: 2,
      stderr: `there is no checkpoint of tenant ${it.acme}, whose export it is\n`,
    })
  })
})
