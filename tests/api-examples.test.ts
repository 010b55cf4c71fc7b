import { execFile, spawnSync } from 'node:child_process'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, test } from 'vitest'
import { addKeys } from '../src/audit/sealer.ts'
import { makePool } from '../src/db/pool.ts'
import { makeSigner, sealAll } from './audit/seals.ts'
import { type World, world } from './harness.ts'
import { fencesOf, ownExamples, read } from './markdown.ts'

// Every command of these documents is run, in order, by a real shell, and each answer is compared with the one that
// stands below it: status, the headers that are shown, and the body.

const examined = ['docs/api-examples.md', 'README.md', ...ownExamples]

/** A block of commands, and the answer it promises: none for a block that only keeps something for later. */
type Example = { title: string; command: string; promised: string | undefined; number: number }

const examplesOf = (document: string): Example[] => {
  const fences = fencesOf(read(document)).filter(({ language }) => language === 'sh' || language === 'http')
  const found = fences.flatMap(({ language, text, line }, index) => {
    if (language !== 'sh' || !/\bcurl\b|^\w+=/m.test(text)) return []
    const next = fences[index + 1]
    const promised = next?.language === 'http' ? next.text : undefined
    return [{ title: `line ${line}: ${titleOf(text)}`, command: text, promised }]
  })
  return found.map((example, number) => ({ ...example, number }))
}

const titleOf = (command: string): string => (command.split('\n').find((line) => line.includes('curl')) ?? '').trim()

const hasCurl = spawnSync('curl', ['--version']).status === 0
const describeWithCurl = hasCurl ? describe : describe.skip

describe.each(examined)('%s', (document) => {
  const examples = examplesOf(document)
  const shown = examples.filter(({ promised }) => promised !== undefined)

  test('every request is shown with its answer, or keeps it in a variable', () => {
    expect(shown.length).toBeGreaterThan(1)
    for (const { title, command, promised } of examples) {
      const requests = command.match(/\bcurl -i\b/g) ?? []
      expect(requests.length, title).toBe(promised === undefined ? 0 : 1)
      const kept = command.match(/(\$\(|\{ )curl -s\b/g) ?? []
      expect(requests.length + kept.length, title).toBe(command.match(/\bcurl\b/g)?.length ?? 0)
    }
  })

  describeWithCurl(hasCurl ? 'as it is written' : 'as it is written (needs curl)', () => {
    // as people have it who did not set any limit; but they take longer than a minute to read
    const it = world({
      env: { RATE_LIMIT_ANONYMOUS: '', RATE_LIMIT_AUTHENTICATED: '', RATE_LIMIT_SENSITIVE: '1000/m' },
      laws: true,
    })
    const patient = (promised: string) =>
      promised
        .replaceAll('"sensitive";q=10;', '"sensitive";q=1000;')
        .replaceAll('"sensitive";r=9;', '"sensitive";r=999;')
    let answers: string[]

    beforeAll(async () => {
      await sealLog(it)
      const address = 'BASE=http://127.0.0.1:3000\n'
      const commands = examples.map(({ command }) => `${command}\n`)
      expect(commands[0]).toContain(address)
      commands[0] = commands[0]?.replace(address, `BASE=${it.origin}\n`) ?? ''
      answers = await runAll(commands)
    })

    test.each(shown.map((example) => [example.title, example] as const))('%s', (_title, { promised = '', number }) => {
      expect(differences(parse(patient(promised)), parse(answers[number] ?? ''))).toEqual([])
    })

    if (document === 'docs/api-examples.md') {
      test('every route of the API has its example', () => {
        const { paths = {} } = it.app.swagger() as { paths?: Record<string, object> }
        const operations = Object.entries(paths).flatMap(([path, methods]) =>
          Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
        )
        const pages = ['GET /api/schema', 'GET /api/docs', 'GET /api/redoc']
        const own = ownExamples.flatMap(examplesOf).filter(({ promised }) => promised !== undefined)
        const requests = [...shown, ...own].map(({ command }) => requestOf(command))

        expect(operations.length).toBeGreaterThan(15)
        expect([...operations, ...pages].filter((operation) => !requests.some(isOf(operation)))).toEqual([])
      })
    }
  })
})

/** As a worker has done by the time that somebody asks. */
const sealLog = async ({ database }: World): Promise<void> => {
  const worker = makePool(database.urls.worker, { max: 1, waitMs: 5000, name: 'examples', onError: () => {} })
  const signer = makeSigner()
  await addKeys(worker, [signer])
  await sealAll(worker, signer).finally(() => worker.end())
}

/** What each block printed. They run in one shell, so that later ones find the variables of earlier ones. */
const runAll = async (commands: string[]): Promise<string[]> => {
  const mark = '=== end of block ==='
  const script = commands.map((command) => `${command}\nprintf '%s' '${mark}'\n`).join('')
  const { stdout } = await promisify(execFile)('sh', ['-uc', script], {
    env: { PATH: process.env.PATH, HOME: '/nonexistent', NO_PROXY: '*' }, // no .curlrc and no proxy of this machine's
    maxBuffer: 64_000_000,
    timeout: 60_000,
  })
  return stdout.split(mark)
}

/** `curl -i "$API/projects/$ID" -X PATCH` → `PATCH /api/v1/projects/$ID` */
const requestOf = (command: string): string => {
  const [, path = ''] = /curl -i "\$([^"?]*)/.exec(command) ?? []
  const [, asked] = / -X ([A-Z]+)/.exec(command) ?? []
  const method = asked ?? (/ -d /.test(command) ? 'POST' : 'GET')
  return `${method} ${path.replace(/^API/, '/api/v1').replace(/^BASE/, '')}`
}

const isOf = (operation: string): ((request: string) => boolean) => {
  const pattern = new RegExp(`^${operation.replaceAll('.', '\\.').replace(/\{\w+\}/g, '[^/]+')}$`)
  return (request) => pattern.test(request)
}

type Message = { status: string; headers: Map<string, string>; body: string }

const parse = (message: string): Message => {
  const [head = '', ...rest] = message.replaceAll('\r\n', '\n').trim().split('\n\n')
  const [status = '', ...lines] = head.split('\n')
  const headers = lines.map((line) => /^([^:]+): *(.*)$/.exec(line)).filter((found) => found !== null)
  return {
    status,
    headers: new Map(headers.map(([, name = '', value = '']) => [name.toLowerCase(), value])),
    body: rest.join('\n\n').trim(),
  }
}

/** In words: where an answer is not as promised. A promise of fewer headers is kept by more; a body is compared whole. */
const differences = (promised: Message, actual: Message): string[] => [
  ...(promised.status === actual.status ? [] : [`status: ${actual.status} is not ${promised.status}\n${actual.body}`]),
  ...[...promised.headers].flatMap(([name, value]) => unlike(value, actual.headers.get(name), name)),
  ...bodyDifferences(promised.body, actual.body),
]

const bodyDifferences = (promised: string, actual: string): string[] =>
  promised.startsWith('{') ? unlike(JSON.parse(promised), jsonOf(actual), 'body') : unlike(promised, actual, 'body')

const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/

/**
 * What is made anew each time counts by its form: ids, times, and numbers that are times or measurements. `…` stands for
 * any text, and as a field for any other fields.
 */
const unlike = (promised: unknown, actual: unknown, path: string): string[] => {
  const wrong = [`${path}: ${JSON.stringify(actual)} is not like ${JSON.stringify(promised)}`]
  if (typeof promised === 'string') return typeof actual === 'string' && isLike(promised, actual) ? [] : wrong
  if (typeof promised === 'number' && (promised > 1e9 || !Number.isInteger(promised))) {
    return typeof actual === 'number' ? [] : wrong
  }
  if (typeof promised !== 'object' || promised === null) return promised === actual ? [] : wrong
  if (typeof actual !== 'object' || actual === null || Array.isArray(promised) !== Array.isArray(actual)) return wrong

  const { '…': more, ...fields } = promised as Record<string, unknown>
  const found = actual as Record<string, unknown>
  const unknown = more === undefined ? Object.keys(found).filter((name) => !Object.hasOwn(fields, name)) : []
  return [
    ...unknown.map((name) => `${path}.${name}: it is not in the document`),
    ...Object.entries(fields).flatMap(([name, value]) => unlike(value, found[name], `${path}.${name}`)),
  ]
}

const isLike = (promised: string, actual: string): boolean => {
  for (const form of [UUID, TIME]) if (form.test(promised)) return form.test(actual)
  const parts = promised.split('…').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^${parts.join('.*')}$`, 's').test(actual)
}
