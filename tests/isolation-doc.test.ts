import { afterAll, beforeAll, expect, test } from 'vitest'
import { databaseUrl } from '../scripts/logins.ts'
import { type Fence, fencesOf, read } from './markdown.ts'
import { describeWithPsql, runToEnd } from './psql.ts'
import { type Clone, cloneDatabase } from './servers.ts'

// What docs/isolation.md shows of psql is what psql shows: each block is typed into a session of its own, in order, and
// what comes back is compared with what stands there.

const document = 'docs/isolation.md'
const fences = fencesOf(read(document))
const transcripts = fences.filter(({ language }) => language.startsWith('psql '))

type Step = { input: string; shown: string }

/** A line behind a prompt is typed, a line behind a prompt that goes on is typed with it, and others are shown. */
const stepsOf = ({ text, line }: Fence): Step[] => {
  const steps: Step[] = []
  for (const row of text.split('\n')) {
    const [, sign, typed] = /^(?:bulkhead|no tenant|acme|globex)([=*!-]*)[>#] (.*)$/.exec(row) ?? []
    const last = steps.at(-1)
    if (typed !== undefined && !sign?.includes('-')) steps.push({ input: typed, shown: '' })
    else if (!last) throw new Error(`the block in line ${line} does not begin with a prompt`)
    else if (typed !== undefined) last.input += `\n${typed}`
    else last.shown += `${row}\n`
  }
  return steps
}

/** Widths depend on values, and where a script is read from is no matter. */
const plain = (shown: string): string =>
  shown
    .replace(/^psql:<stdin>:\d+: /gm, '')
    .replace(/-{2,}/g, '--')
    .replace(/[^\S\n]+/g, ' ')
    .replace(/ $/gm, '')
    .trim()

/** `…` stands for any text in a line; as a line of its own for any lines. */
const isLike = (promised: string, actual: string): boolean => {
  const parts = plain(promised).split('…')
  const text = parts.map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('…')
  return new RegExp(`^${text.replace(/^…$/gm, '(.|\\n)*').replaceAll('…', '.*')}$`).test(plain(actual))
}

const differences = (steps: Step[], actual: string[]): string[] =>
  steps.flatMap(({ input, shown }, n) =>
    isLike(shown, actual[n] ?? '') ? [] : [`${input}\nis answered\n${actual[n]}\nand not\n${shown}`],
  )

const cli = new URL('../src/cli.ts', import.meta.url).pathname

test('it has transcripts, and a promise of something else is not kept', () => {
  expect(transcripts.length).toBeGreaterThan(8)
  expect(isLike(' count \n-------\n     0\n(1 row)', ' count\n-------\n     0\n(1 row)\n')).toBe(true)
  expect(isLike(' count \n-------\n     0\n(1 row)', ' count\n-------\n     3\n(1 row)\n')).toBe(false)
  expect(isLike('ERROR:  permission denied …', 'psql:<stdin>:3: ERROR:  permission denied for table x')).toBe(true)
  expect(isLike('', 'UPDATE 0')).toBe(false)
})

describeWithPsql('docs/isolation.md, as it is written', () => {
  let database: Clone

  beforeAll(async () => {
    database = await cloneDatabase()
  })
  afterAll(() => database.drop())

  /** In a terminal an error ends neither the session nor, in a visit, the transaction. */
  const asInTerminal = '\\set ON_ERROR_STOP off\n\\set ON_ERROR_ROLLBACK off\n\\set VERBOSITY terse\n'
  const mark = '=== end of step ==='
  const typed = (steps: Step[]) => `${asInTerminal}${steps.map(({ input }) => `${input}\n\\echo '${mark}'\n`).join('')}`

  const runAll = async (fence: Fence): Promise<string[]> => {
    const [, who = '', , tenant] = /^psql (\w+)( in (\w+))?$/.exec(fence.language) ?? []
    const steps = stepsOf(fence)
    const { output } = who === 'app_auditor' ? await asAuditor(steps, tenant) : await asRole(who, steps)
    return output.split(`${mark}\n`)
  }

  const asAuditor = (steps: Step[], tenant: string | undefined) => {
    const visit = tenant ? ['--as-tenant', tenant, '--reason', `reading ${document}`] : []
    const script = typed(steps).replace('ON_ERROR_ROLLBACK off', 'ON_ERROR_ROLLBACK on')
    const env = { PATH: process.env.PATH ?? '', LC_ALL: 'C.UTF-8', DATABASE_AUDITOR_URL: database.urls.auditor }
    return runToEnd('sh', ['-c', 'exec "$0" "$@" 2>&1', process.execPath, cli, 'psql', ...visit], env, script)
  }

  const asRole = (role: string, steps: Step[]) => {
    const url = role === 'app_api' ? database.urls.api : database.urls.superuser
    const env = { PATH: process.env.PATH ?? '', PGPASSWORD: decodeURIComponent(new URL(url).password) }
    const address = databaseUrl(url, { user: decodeURIComponent(new URL(url).username) })
    return runToEnd('sh', ['-c', 'exec psql -X "$0" 2>&1', address.replace(/:@/, '@')], env, typed(steps))
  }

  test.each(transcripts.map((fence) => [`line ${fence.line}: ${fence.language}`, fence] as const))(
    '%s',
    async (_title, fence) => {
      expect(differences(stepsOf(fence), await runAll(fence))).toEqual([])
    },
  )

  test('somebody else is shown something else, and that is noticed', async () => {
    const ofApi = transcripts.find(({ language }) => language === 'psql app_api') as Fence
    const found = differences(stepsOf(ofApi), await runAll({ ...ofApi, language: 'psql app_auditor in acme' }))

    expect(found).toContainEqual(expect.stringMatching(/^select count\(\*\) from app\.projects;\nis answered/))
  })

  test('the laws are listed as it says', async () => {
    const promised = fences.find(({ language, text }) => language === 'text' && text.includes('violations'))
    const { output } = await runToEnd(process.execPath, [cli, 'laws'], { DATABASE_OWNER_URL: database.urls.superuser })

    expect(isLike(promised?.text ?? '', output), output).toBe(true)
  })
})
