import { spawn, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { tmpdir, userInfo } from 'node:os'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Person, world } from '../harness.ts'
import { cliPsql, describeWithPsql } from '../psql.ts'
import { template } from '../servers.ts'

const it = world()
let acme: Person

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
})

const psql = (args: string[], input?: string, env: Record<string, string> = {}) =>
  cliPsql(args, { DATABASE_AUDITOR_URL: it.database.urls.auditor, ...env }, input)

const inAcme = (reason = 'ticket 4711') => ['--as-tenant', 'acme', '--reason', reason]

const visits = async (reason: string) => {
  const { data } = (await acme.get('/audit/logs?table=tenants&action=read&limit=100')).json()
  return data.filter((entry: { new_row: { reason?: string } }) => entry.new_row.reason === reason)
}

describe('what it refuses', () => {
  test.each([
    ['a tenant without a reason', ['--as-tenant', 'acme'], /^--as-tenant needs --reason: /],
    ['a reason without a tenant', ['--reason', 'x'], /^--reason and --person are about a tenant/],
    ['an option that it does not know', ['--tenant', 'acme'], /^Unknown option '--tenant'/],
    ['a tenant without the option', ['acme'], /^Unexpected argument 'acme'/],
    ['another server', ['--', '-h', 'elsewhere'], /^Unknown option '-h'/],
    ['another login', ['--', '--username=postgres'], /^Unknown option '--username'/],
    ['another database', ['--', 'elsewhere'], /^Unexpected argument 'elsewhere'/],
    ['variables, of which some say which tenant this is', ['--', '-v', 'tenant=globex'], /^Unknown option '-v'/],
  ])('%s', async (_what, args, message) => {
    const { code, stderr, stdout } = await psql(args)

    expect(stderr).toMatch(message)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  })

  test('a variable that is missing', async () => {
    const { code, stderr } = await cliPsql(inAcme(), {})

    expect(stderr).toMatch(/^DATABASE_AUDITOR_URL is missing: [^\n]*\n$/)
    expect(code).toBe(2)
  })

  test('another role, whatever it may', async () => {
    const { code, stderr } = await psql(inAcme(), '', { DATABASE_AUDITOR_URL: it.database.urls.superuser })

    expect(stderr).toMatch(/^refusing to serve as \w+: .*the login for this is app_auditor\n$/)
    expect(code).toBe(1)
  })

  test('a server that does not answer', async () => {
    const { code, stderr } = await psql([], '', { DATABASE_AUDITOR_URL: 'postgres://app_auditor@127.0.0.1:1/nowhere' })

    expect(stderr).toMatch(/^DATABASE_AUDITOR_URL: the database cannot be reached: .*ECONNREFUSED/)
    expect(code).toBe(1)
  })

  test('a machine without psql', async () => {
    const { code, stderr } = await psql(inAcme(), '', { PATH: '/nonexistent' })

    expect(stderr).toBe('psql is not on the path: install the PostgreSQL client (Debian: postgresql-client)\n')
    expect(code).toBe(1)
  })
})

describeWithPsql('npm run cli -- psql', () => {
  test('shows the rows of one tenant, as psql prints them', async () => {
    const { data } = (await acme.get('/projects?sort=name&limit=100')).json()
    const asked = 'select name from app.projects order by name'
    const { code, stdout, stderr } = await psql([
      ...inAcme(),
      '--',
      '-At',
      '-c',
      asked,
      '--command',
      'select tenant_id from app.projects',
    ])

    const lines = data.map(({ name }: { name: string }) => name)
    expect(stderr).toBe('')
    expect(stdout.trim().split('\n')).toEqual([...lines, ...lines.map(() => acme.tenantId)])
    expect(code).toBe(0)
  })

  test('the tenant sees who looked, as what, from where, and why', async () => {
    const reason = `a 'quoted' reason; ${randomUUID()}`
    await psql([...inAcme(reason), '--person', 'Ada "the" DBA', '--', '-c', 'select 1'])
    await psql([...inAcme(reason), '--', '-c', 'select 1'])

    const found = await visits(reason)

    expect(found.map(({ new_row }: { new_row: { person: string } }) => new_row.person)).toEqual([
      userInfo().username,
      'Ada "the" DBA',
    ])
    expect(found[0]).toMatchObject({
      actor_kind: 'operator',
      actor_id: null,
      on_behalf_of: null,
      role: 'auditor',
      action: 'read',
      table: 'tenants',
      row_id: acme.tenantId,
      new_row: { login: 'app_auditor' },
    })
    const globex = await it.as('owner', 'globex')
    expect((await globex.get('/audit/logs?limit=100')).body).not.toContain(reason)
  })

  test('a script on its standard input: rows end with the transaction, and :enter is written down again', async () => {
    const reason = randomUUID()
    const count = 'select count(*) > 0 as some from app.projects;\n'

    const { code, output } = await psql(
      [...inAcme(reason), '--', '-Atq'],
      `${count} commit; ${count} :enter\n ${count}`,
    )

    expect(output).toBe('t\nf\nt\n')
    expect(code).toBe(0)
    expect(await visits(reason)).toHaveLength(2)
  })

  test('without a tenant no row is seen, and the security log is', async () => {
    const { code, stdout } = await psql([
      '--',
      '-Atc',
      'select count(*) from app.projects',
      '-c',
      'select count(*) > 0 from app.security_log',
    ])

    expect(stdout).toBe('0\nt\n')
    expect(code).toBe(0)
  })

  test.each([
    ['in the visit', `update app.projects set name = 'x'`, 'ERROR:  cannot execute UPDATE in a read-only transaction'],
    ['made writable', 'set transaction read write', 'ERROR:  transaction read-write mode must be set before any query'],
    [
      'in another transaction',
      `commit; begin read write; update app.projects set name = 'x'`,
      'ERROR:  permission denied for table projects',
    ],
    ['what comes after it', 'select 1/0', 'ERROR:  division by zero'],
  ])('nothing is written, and an error ends a script: %s', async (_where, script, message) => {
    const { code, stdout, stderr } = await psql([...inAcme(), '--', '-At'], `${script};\n select 'not reached';\n`)

    expect(stderr).toContain(message)
    expect(stdout).not.toContain('not reached')
    expect(code).toBe(3)
  })

  test('without a reason that says something it is refused, in a line, and a visit is written down once', async () => {
    const empty = await psql(['--as-tenant', 'acme', '--reason', ' ', '--', '-c', 'select 1'])
    expect(empty).toMatchObject({
      code: 1,
      stderr: 'a visit needs a person (of 1 to 200 characters) and a reason (of 1 to 500)\n',
    })
    const reason = randomUUID()
    expect(await psql([...inAcme(reason), '--', '-c', 'select 1'])).toMatchObject({ code: 0 })
    expect(await visits(reason)).toHaveLength(1)
  })

  test('of a tenant that does not exist nothing is asked', async () => {
    const { code, stdout, stderr } = await psql([
      '--as-tenant',
      'nowhere',
      '--reason',
      'x',
      '--',
      '-c',
      `select 'not reached'`,
    ])

    expect(stderr).toBe('there is no tenant nowhere\n')
    expect(stdout).toBe('')
    expect(code).toBe(1)
  })

  test('the password is no argument, and no other secret is there at all', async () => {
    const password = template().passwords.auditor
    const url = it.database.urls.auditor
    for (const address of [url, `${url.replace(/:[^:@]*@/, '@')}?password=${password}&application_name=a`]) {
      const { stdout } = await psql(
        [
          '--',
          '-c',
          `\\! cat /proc/$PPID/cmdline 2>/dev/null || ps -ww -o args= -p $PPID; echo; env`,
          '-Atc',
          'select current_user',
        ],
        '',
        {
          DATABASE_AUDITOR_URL: address,
          DATABASE_OWNER_URL: 'postgres://owner:hidden@x/y',
          ENCRYPTION_KEYS: 'k:hidden',
          JWT_KEYS: 'hidden',
        },
      )

      expect(stdout).toContain('\napp_auditor\n')
      expect(stdout).toContain('--no-psqlrc')
      expect(stdout.split(password)).toHaveLength(2)
      expect(stdout).toContain(`PGPASSWORD=${password}`)
      expect(stdout).not.toContain('hidden')
    }
  })

  const inTerminal = spawnSync('script', ['--version'], { encoding: 'utf8' }).stdout?.includes('util-linux') === true

  ;(inTerminal ? test : test.skip)(
    `in a terminal the prompt says where one is${inTerminal ? '' : ' (needs script, of util-linux)'}`,
    async () => {
      const reason = randomUUID()
      const cli = new URL('../../src/cli.ts', import.meta.url).pathname
      const command = `'${process.execPath}' '${cli}' psql --as-tenant acme --reason ${reason}`
      const child = spawn('script', ['-qec', command, '/dev/null'], {
        cwd: tmpdir(),
        env: { PATH: process.env.PATH, TERM: 'dumb', PAGER: 'cat', DATABASE_AUDITOR_URL: it.database.urls.auditor },
      })
      let output = ''
      const waiting: (() => void)[] = []
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        output += text
        for (const look of waiting.splice(0)) look()
      })
      const ended = new Promise((resolve) => child.on('close', resolve))
      /** Types a line, once the prompt is there; answers what was shown before it. */
      const prompted = async (prompt: string, line: string): Promise<string> => {
        while (!output.endsWith(prompt)) await new Promise<void>((look) => waiting.push(look))
        const shown = output
        output = ''
        child.stdin.write(`${line}\n`)
        return shown
      }

      expect(await prompted('acme*=> ', 'select count(*) > 0 as some from app.projects;')).toContain(
        'You see the rows of acme',
      )
      expect(await prompted('acme*=> ', 'select mistyped;')).toMatch(/some\s+-+\s+t\s/)
      expect(await prompted('acme*=> ', 'commit;')).toContain('ERROR:')
      await prompted('acme=> ', 'select count(*) > 0 as some from app.projects;')
      expect(await prompted('acme=> ', ':enter')).toMatch(/some\s+-+\s+f\s/)
      await prompted('acme*=> ', '\\set tenant nowhere')
      await prompted('acme*=> ', ':enter')
      expect(await prompted('no tenant=> ', '\\q')).toContain('there is no tenant nowhere')

      expect(await ended).toBe(0)
      expect(await visits(reason)).toHaveLength(2)
    },
  )
})
