import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { describeSchema } from '../scripts/schema-listing.ts'
import { prepare } from '../src/prove/contexts.ts'
import { doors } from '../src/prove/doors.ts'
import { asHtml } from '../src/prove/format-html.ts'
import { asSarif } from '../src/prove/format-sarif.ts'
import { type ProveOptions, prove, proveWithin } from '../src/prove/prove.ts'
import type { Report } from '../src/prove/report.ts'
import { rules } from '../src/prove/rules.ts'
import { withClient } from './databases.ts'
import { manyTables } from './many-tables.ts'
import { committed, quiet, type Sabotage, sabotages } from './sabotages.ts'
import { type Clone, cloneDatabase } from './servers.ts'

let database: Clone
let client: pg.Client
let partition: string

beforeAll(async () => {
  database = await cloneDatabase()
  client = await connect(database.urls.superuser)
  const { rows } = await client.query(`select relname from pg_class where relname ~ '^audit_log_\\d+_\\d+$' order by 1`)
  partition = rows[0].relname
})

afterAll(async () => {
  await client.end()
  await database.drop()
})

const connect = async (connectionString: string): Promise<pg.Client> => {
  const client = new pg.Client({ connectionString })
  client.on('error', () => {})
  await client.connect()
  return client
}

/** Does `sql` in a transaction that is rolled back, and proves what is there then. */
const proving = async (sql: string, options: Partial<ProveOptions> = {}): Promise<Report> => {
  const preparation = await prepare(client)
  await client.query('begin')
  try {
    await client.query(sql.replaceAll(':partition', partition))
    await client.query('reset role')
    return await proveWithin(client, { preparation, ...options })
  } finally {
    await client.query('rollback')
  }
}

/** With a second connection, in a database of its own. */
const inClone = async (sql: string, work: (report: Report, clone: Clone) => Promise<void> | void): Promise<void> => {
  const clone = await cloneDatabase()
  try {
    await withClient(clone.urls.superuser, async (one) => {
      await one.query(`begin; ${sql}; reset role; commit`)
      await work(await withClient(clone.urls.superuser, (two) => prove(one, two)), clone)
    })
  } finally {
    await clone.drop()
  }
}

const named = (findings: Report['findings'], source: string) =>
  findings.filter((finding) => finding.source === source).map(({ rule, object }) => [rule, object])

const expectFound = ({ findings }: Report, { laws, attacks, andMore = false, gaps = [] }: Sabotage) => {
  for (const [source, pairs] of [
    ['law', laws],
    ['attack', attacks],
  ] as const) {
    const found = named(findings, source)
    const expected = pairs.map(([rule, object]) => [rule, object.replaceAll(':partition', partition)])
    if (!andMore) expect(found.sort()).toEqual(expected.sort())
    else for (const pair of expected) expect(found).toContainEqual(pair)
  }
  expect(named(findings, 'gap')).toEqual(gaps)
  for (const { why, mend, detail } of findings) {
    expect(why).toMatch(/[.)]$/)
    expect(mend).toMatch(/;$|--/m)
    expect(detail).not.toBe('')
  }
}

describe('the migrated database', () => {
  let report: Report

  beforeAll(async () => {
    const other = await connect(database.urls.superuser)
    report = await prove(client, other)
    await other.end()
  })

  test('no findings, and nothing was left out', () => {
    expect(report.findings).toEqual([])
    expect(report.notChecked).toEqual([])
    expect(report.hardening).toEqual([])
    expect(report.attacks.notMade).toEqual([])
    expect(report.attacks.tables).toEqual({ made: report.attacks.tables.made, found: 0, missing: 0 })
    expect(report.attacks.tables.made).toBeGreaterThanOrEqual(8)
  })

  test('every kind of object is counted, and each one that can be attacked was', async () => {
    // these cannot be called
    const { rows } = await client.query<{ count: number }>(
      `select count(*)::int as count from pg_proc where pronamespace = 'app'::regnamespace and prorettype = 'trigger'::regtype`,
    )
    const ofTriggers = rows[0]?.count ?? 0
    const { inventory, attacks } = report
    for (const kind of [
      'table',
      'partition',
      'function',
      'foreign key',
      'policy',
      'trigger',
      'role setting',
      'grant',
    ] as const) {
      expect(inventory[kind].length, kind).toBeGreaterThan(0)
    }
    expect(inventory.table).toContain('app.projects')
    expect(inventory.grant).toContain('select on app.projects to app_api')
    expect(inventory.role).toContain('app_api, login')
    for (const kind of ['table', 'partition', 'view', 'materialised view', 'sequence'] as const) {
      expect(attacks.byKind[kind]?.objects ?? 0, kind).toBe(inventory[kind].length)
    }
    expect(inventory.function.length - (attacks.byKind.function?.objects ?? 0)).toBeLessThanOrEqual(ofTriggers)
  })

  test('every login role attacked in every context, and saw its own rows where it may read', () => {
    const { attacks } = report
    expect(attacks.roles).toEqual(['app_api', 'app_auditor', 'app_auth', 'app_jobs', 'app_operator', 'app_worker'])
    for (const role of attacks.roles) {
      for (const context of ['none', 'own', 'by hand', 'forged', 'replayed'] as const) {
        expect(attacks.byRole[role]?.[context], `${role} in ${context}`).toBeGreaterThan(0)
      }
    }
    for (const { role, may, sees } of attacks.ownRows) expect(sees, role).toBe(may)
    expect(attacks.ownRows.find(({ role }) => role === 'app_api')?.sees).toBeGreaterThanOrEqual(5)
    expect(attacks.attempts).toBeGreaterThan(3000)
    expect(attacks.refused).toBeGreaterThan(attacks.attempts / 2)
  })
})

/** What is changed, and what is expected to show it, is attacked; everything, where it reaches far. Laws look at all. */
const around = ({ sql, laws, attacks, andMore, gaps = [] }: Sabotage): Partial<ProveOptions> => {
  if (andMore || attacks.some(([, object]) => !object.includes('.'))) return {}
  const told = [sql, ...[...laws, ...attacks, ...gaps].map(([, object]) => object)]
    .join('\n')
    .replaceAll(':partition', partition)
  return { only: (name) => told.includes(name.replace(/\(.*/, '')) }
}

describe('sabotage', () => {
  test('at least thirty are tried, and each without an attack says why', () => {
    expect(sabotages.length).toBeGreaterThanOrEqual(30)
    for (const { title, laws, attacks, noAttack } of sabotages) {
      expect(laws.length, title).toBeGreaterThan(0)
      expect(attacks.length > 0, title).toBe(noAttack === undefined)
    }
  })

  test.each(sabotages)('found, by name: $title', async (sabotage) => {
    expectFound(await proving(sabotage.sql, around(sabotage)), sabotage)
  })

  test.each(quiet)('no law sees it, and the attacks do: $title', async (sabotage) => {
    expect(sabotage.laws).toEqual([])
    expectFound(await proving(sabotage.sql, around(sabotage)), sabotage)
  })

  test.each(committed)('between transactions: $title', async (sabotage) => {
    await inClone(sabotage.sql, (report) => expectFound(report, sabotage))
  })

  test('every attack gets through at least once', () => {
    const broken = [...sabotages, ...quiet, ...committed].flatMap(({ attacks }) => attacks.map(([rule]) => rule))
    expect(Object.keys(rules).filter((rule) => !broken.includes(rule))).toEqual([])
  })

  test('the SQL that a finding of an attack gives takes the leak away', async () => {
    const preparation = await prepare(client)
    const cases = [...sabotages, ...quiet].filter(({ title }) =>
      [
        'the wall is for one role',
        'a granted materialised view',
        'BYPASSRLS',
        'a function of a harmless name that enters a tenant',
      ].includes(title),
    )
    expect(cases.length).toBe(4)
    for (const sabotage of cases) {
      const options = { preparation, ...around(sabotage) }
      await client.query('begin')
      await client.query(sabotage.sql)
      const before = await proveWithin(client, options)
      for (const mend of new Set(before.findings.map(({ mend }) => mend))) await client.query(mend)
      const { findings } = await proveWithin(client, options)
      await client.query('rollback')
      expect(before.findings, sabotage.title).not.toEqual([])
      expect(findings, sabotage.title).toEqual([])
    }
  })

  test('each door is there, and would be found if it were not listed', async () => {
    const { findings } = await proving('', { doors: [] })

    const found = findings.map(({ object, evidence }) => [object.replace(/\(.*/, ''), evidence[0]?.role])
    const listed = doors.map(({ object, role }) => [object.replace(/\(.*/, ''), role])
    for (const door of listed) expect(found).toContainEqual(door)
    expect(found.filter((each) => !listed.some((door) => door.join() === each.join()))).toEqual([])
  })
})

test('where only some are attacked, the report says so', async () => {
  const { attacks } = await proving('', { only: (name) => name === 'app.projects' })

  expect(attacks.notMade).toContainEqual(expect.stringMatching(/^on \d{3,} relations and functions: only some/))
  expect(attacks.byKind.function).toBeUndefined()
})

describe('tables that nobody named', () => {
  test('a hundred of them: each is made rows for, attacked and found sound', async () => {
    const { findings, attacks } = await proving(manyTables(100))

    expect(findings).toEqual([])
    expect(attacks.tables.missing).toBe(0)
    expect(attacks.tables.made).toBeGreaterThanOrEqual(108)
    expect(attacks.byKind['foreign key']?.objects).toBeGreaterThanOrEqual(190)
    expect(attacks.byKind['unique index']?.objects).toBeGreaterThanOrEqual(100)
  })

  test('one of them without its wall is found among the others', async () => {
    const { findings } = await proving(`${manyTables(10)}; drop policy wall on app.t007`)

    expect(new Set(findings.map(({ object }) => object))).toEqual(new Set(['app.t007']))
    expect(named(findings, 'attack')).toContainEqual(['no_role_reads_a_row_of_another_tenant', 'app.t007'])
  })

  const odd = (check: string) => `
    ${manyTables(1).replaceAll('t000', 'odd')}
    alter table app.odd ${check}`

  test('one that takes no row that we can think of is a finding, with what PostgreSQL said', async () => {
    const { findings, attacks } = await proving(
      odd(`add check (char_length(name) = 7 and name ~ '^x' and name ~ 'y$' and md5(name) like '00%')`),
    )

    expect(findings).toMatchObject([{ rule: 'every_table_is_attacked_with_rows', object: 'app.odd', severity: 'note' }])
    expect(findings[0]?.detail).toMatch(/^no value that we can think of fits name text CHECK/)
    expect(attacks.tables.missing).toBe(1)
  })

  test('partitions by tenant, and a view of one’s own context, are sound', async () => {
    const partition = (number: number) => `
      create table app.odd_${number} partition of app.odd for values with (modulus 2, remainder ${number});
      alter table app.odd_${number} enable row level security, force row level security;
      create policy wall on app.odd_${number} as restrictive to public
        using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));
      select app.audit_table('app.odd_${number}');`
    const { findings } = await proving(`
      ${manyTables(1)
        .replaceAll('t000', 'odd')
        .replace(/(create table app\.odd \([\s\S]*?\n?\))(;)/, '$1 partition by hash (tenant_id)$2')}
      set local role app_owner;
      ${partition(0)} ${partition(1)}
      create view app.me with (security_invoker) as select app.tenant_id() as tenant_id, app.actor_id() as actor_id;
      grant select on app.me to app_api;
      reset role;`)

    expect(findings).toEqual([])
  })

  test('where it has a row of somebody, that one is attacked', async () => {
    const { findings, attacks } = await proving(`
      ${odd('add column note text')};
      select app.seal(tenant_id, 'system', null, 'owner', null, null, null) from app.tenants limit 1;
      insert into app.odd (name, status) values ('x', 'open');
      set local app.context = '';
      create function app.refuse() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp
        as 'begin raise exception ''nothing comes in''; end';
      revoke execute on function app.refuse() from public;
      alter function app.refuse() owner to app_gate;
      create trigger refuse before insert on app.odd for each row execute function app.refuse();
      drop policy wall on app.odd`)

    expect(attacks.tables).toMatchObject({ found: 1, missing: 0 })
    expect(named(findings, 'attack')).toContainEqual(['no_role_reads_a_row_of_another_tenant', 'app.odd'])
  })
})

describe('beside users', () => {
  test('it takes no lock that a reader or a writer waits for, and waits for none of theirs', async () => {
    const other = await connect(database.urls.superuser)
    const user = await connect(database.urls.superuser)
    const { rows } = await user.query<{ name: string }>(
      `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and n.nspname in ('app', 'audit', 'pgboss', 'migrations')`,
    )
    // the lock of a writer, which stands in the way of every lock that would hold up a reader or a writer
    await user.query(`begin; lock table ${rows.map(({ name }) => name).join(', ')} in row exclusive mode`)
    const report = await prove(client, other)
    await user.query('rollback')
    await Promise.all([user.end(), other.end()])

    expect(rows.length).toBeGreaterThan(20)
    expect(report.findings).toEqual([])
  })

  test('what somebody else has locked against everybody ends it, and it says so', async () => {
    const other = await connect(database.urls.superuser)
    const holder = await connect(database.urls.superuser)
    await holder.query('begin; lock table app.idempotency_keys in access exclusive mode')
    const failure = await prove(client, other).catch((error: Error) => error)
    await holder.query('rollback')
    await Promise.all([holder.end(), other.end()])

    expect(failure).toMatchObject({ name: 'ProveRefused', message: expect.stringMatching(/is locked/) })
    expect(client.getTransactionStatus()).toBe('I')
  })

  test('nothing is kept: no row, no object, no role, no grant', async () => {
    const state = async () => {
      const tables = await client.query<{ name: string }>(
        `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where c.relkind = 'r' and n.nspname in ('app', 'audit', 'pgboss', 'migrations') order by 1`,
      )
      const rows: string[] = []
      for (const { name } of tables.rows) {
        const { rows: found } = await client.query(
          `select md5(coalesce(string_agg(t::text, ',' order by t::text), '')) as sum from ${name} t`,
        )
        rows.push(`${name} ${found[0].sum}`)
      }
      const { rows: roles } = await client.query(
        `select rolname, rolsuper, rolbypassrls, rolcreaterole from pg_roles order by 1`,
      )
      return { rows, roles, schema: await describeSchema(client) }
    }
    const before = await state()
    const other = await connect(database.urls.superuser)
    await prove(client, other)
    await other.end()

    expect(client.getTransactionStatus()).toBe('I')
    expect(await state()).toEqual(before)
  })
})

describe('npm run cli -- prove', () => {
  const cli = new URL('../src/cli.ts', import.meta.url).pathname
  let folder: string

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'prove-'))
  })
  afterAll(() => rm(folder, { recursive: true }))

  const run = (args: string[], env: Record<string, string>) =>
    new Promise<{ code: number | string | null | undefined; stdout: string; stderr: string }>((done) => {
      execFile(process.execPath, [cli, 'prove', ...args], { env, cwd: folder }, (error, stdout, stderr) => {
        done({ code: error ? error.code : 0, stdout, stderr })
      })
    })

  test('a table, and exit code 0 where nothing is found', async () => {
    const { code, stdout, stderr } = await run([], { DATABASE_OWNER_URL: database.urls.superuser })

    expect(stderr).toBe('')
    expect(code).toBe(0)
    expect(stdout).toMatch(/^ {2}table +\d+ +unique index +\d+$/m)
    expect(stdout).toMatch(/^ {2}app_api +\d+ +\d+ +\d+ +\d+ +\d+$/m)
    expect(stdout).toMatch(/^ {2}\d+ laws looked at \d+ objects and \d+ rows: none is broken$/m)
    expect(stdout).toMatch(/^No findings\.$/m)
  })

  describe('on a database with findings', () => {
    let broken: Clone
    let env: Record<string, string>
    let report: Report

    beforeAll(async () => {
      broken = await cloneDatabase()
      env = { DATABASE_OWNER_URL: broken.urls.superuser }
      await withClient(broken.urls.superuser, (client) =>
        client.query(`
          drop policy wall on app.projects;
          create table public."<b>&'""x" (tenant_id uuid);
          comment on table public."<b>&'""x" is '</code><script>alert(1)</script>'`),
      )
      const { code, stdout } = await run(['--format', 'json'], env)
      expect(code).toBe(1)
      report = JSON.parse(stdout)
    })
    afterAll(() => broken.drop())

    test('the table names each, why it matters, who did it and the SQL that mends it; exit code 1', async () => {
      const { code, stdout } = await run(['--format', 'table'], env)

      expect(code).toBe(1)
      expect(stdout).toMatch(/^\d+ findings:$/m)
      expect(stdout).toMatch(
        /^\d+\. no role reads a row of another tenant: app\.projects \(table\)\n {3}it read rows of another tenant.*\n {3}why it matters: .+\n {3}by app_api, in the context none, own, .+: select, .+\n/m,
      )
      expect(stdout).toContain('create policy wall on app.projects as restrictive to public using')
    })

    test('json is the report', () => {
      expect(report).toMatchObject({ version: 1, database: broken.name, isSuperuser: true })
      expect(named(report.findings, 'law')).toContainEqual(['every_tenant_table_has_the_wall', 'app.projects'])
      expect(report.findings.find(({ source }) => source === 'attack')?.evidence[0]).toMatchObject({
        role: 'app_api',
        as: 'app_api',
        context: 'none',
        command: 'select',
      })
    })

    test('--output writes a file, and says so in a line', async () => {
      const file = join(folder, 'report.html')
      const { code, stdout } = await run(['--format', 'html', '--output', file], env)
      const page = await readFile(file, 'utf8')

      expect(code).toBe(1)
      expect(stdout).toMatch(/^\d+ attempts, \d+ laws, \d+ findings: .*report\.html\n$/)
      expect(page).toMatch(/^<!doctype html>/)
      expect(page).toContain('no role reads a row of another tenant: <code>app.projects</code>')
    })

    test('html loads nothing, runs nothing, and escapes every name', () => {
      const page = asHtml(report)

      expect(page).toContain('public.&quot;&lt;b&gt;&amp;&#39;&quot;&quot;x&quot;')
      expect(page).not.toMatch(/<b>|<script|\son\w+=|(?:src|href)=|url\(|@import/i)
      expect(page).toContain(`content="default-src 'none'; style-src 'unsafe-inline'"`)
    })

    test('sarif has what version 2.1.0 asks for', () => {
      const log = JSON.parse(asSarif(report))
      const [sarifRun] = log.runs

      expect(log.version).toBe('2.1.0')
      expect(log.$schema).toMatch(/sarif-schema-2\.1\.0\.json$/)
      expect(sarifRun.tool.driver.name).toBe('bulkhead prove')
      const ids = sarifRun.tool.driver.rules.map(({ id }: { id: string }) => id)
      expect(new Set(ids).size).toBe(ids.length)
      for (const rule of sarifRun.tool.driver.rules) {
        expect(rule.shortDescription.text).toMatch(/^[A-Z].*\.$/)
        expect(new URL(rule.helpUri).protocol).toBe('https:')
        expect(rule.help.markdown).not.toBe('')
      }
      expect(sarifRun.results.length).toBeGreaterThan(3)
      for (const result of sarifRun.results) {
        expect(sarifRun.tool.driver.rules[result.ruleIndex].id).toBe(result.ruleId)
        expect(['error', 'note']).toContain(result.level)
        expect(result.kind).toBe('fail')
        expect(result.message.text).not.toBe('')
        const [location] = result.locations
        expect(location.physicalLocation.artifactLocation.uri).toMatch(/^(sql\/laws\/\w+\.sql|src\/prove\/rules\.ts)$/)
        expect(location.logicalLocations[0].fullyQualifiedName).toContain(broken.name)
      }
      expect(
        new Set(
          sarifRun.results.map((result: { partialFingerprints: object }) => JSON.stringify(result.partialFingerprints)),
        ).size,
      ).toBe(sarifRun.results.length)
    })
  })

  test('an unknown format, a database that is not migrated, a login that may not, nobody there: a line each', async () => {
    const { urls } = database
    const empty = new URL(urls.superuser)
    empty.pathname = '/template1'

    expect(await run(['--format', 'xml'], {})).toMatchObject({
      code: 2,
      stderr: 'there is no format xml: table, json, sarif, html\n',
    })
    for (const [output, message] of [
      ['/nowhere/x', '/nowhere/x cannot be written (ENOENT)'],
      [tmpdir(), `${tmpdir()} is a folder: --output names a file`],
    ] as const) {
      // before the database is asked anything: there is none
      const nobody = { DATABASE_OWNER_URL: 'postgres://nobody@127.0.0.1:1/nowhere' }
      expect(await run(['--output', output], nobody)).toMatchObject({ code: 2, stderr: `${message}\n` })
    }
    expect(await run([], {})).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^DATABASE_OWNER_URL is missing.*\n$/),
    })
    expect(await run([], { DATABASE_OWNER_URL: empty.href })).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^no context can be made here \(.*\): is this database migrated\? .*\n$/),
    })
    expect(await run([], { DATABASE_OWNER_URL: urls.worker })).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /^no context can be made here \(.*\): prove runs as a superuser, or as the login that migrated\n$/,
      ),
    })
    expect(await run([], { DATABASE_OWNER_URL: 'postgres://nobody@127.0.0.1:1/nowhere' })).toMatchObject({
      code: 1,
      stderr: 'DATABASE_OWNER_URL cannot be reached: connect ECONNREFUSED 127.0.0.1:1\n',
    })
  })
})
