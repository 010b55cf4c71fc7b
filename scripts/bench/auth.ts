/**
 * What signing in costs, and what it does to those who are in: logins and refreshes a second, GET one while four people
 * sign in, and what entering costs a request. Each beside a control of the same run, by turns.
 *
 *   logins       beside Argon2id alone, of which one login is one
 *   GET one      at a fixed rate that is far from all the machine can do, with four logins at once and without
 *   entering     beside a statement that takes the same parameters and does nothing, in the same transaction
 *   refreshes    beside GET one, by the same client
 */
import { createHash, randomBytes } from 'node:crypto'
import autocannon from 'autocannon'
import pg from 'pg'
import { hashPassword, isPassword } from '../../src/auth/passwords.ts'
import { demoEmail, demoPassword } from '../seed.ts'
import { type Figures, measure, median } from './measure.ts'

type Options = { origin: string; ownerUrl: string; apiUrl: string; seconds: number; turns: number }
type Tokens = { access_token: string; refresh_token: string; tenant: { id: string } }

export const benchAuth = async ({ origin, ownerUrl, apiUrl, seconds, turns }: Options): Promise<void> => {
  const { access_token: token } = await signIn(origin)
  const one = { url: await pathOfOne(origin, token), headers: { authorization: `Bearer ${token}` } }

  console.log(`\nsigning in: ${await logins(origin, seconds, turns)}`)
  console.log(`GET one, ${RATE} a second: ${await underLogins(origin, one, seconds, turns)}`)
  for (const line of await entering(ownerUrl, apiUrl, turns)) console.log(line)
  console.log(`refreshing: ${await refreshes(origin, one, seconds, turns)}`)
}

const PEOPLE = 4
const RATE = 100

const post = async <T>(url: string, body: object): Promise<T> => {
  const answer = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}`)
  return (await answer.json()) as T
}

const signIn = (origin: string) =>
  post<Tokens>(`${origin}/auth/login`, { email: demoEmail('owner', 'acme'), password: demoPassword })

const pathOfOne = async (origin: string, token: string): Promise<string> => {
  const answer = await fetch(`${origin}/projects?limit=1`, { headers: { authorization: `Bearer ${token}` } })
  const { data } = (await answer.json()) as { data: { id: string }[] }
  return `${origin}/projects/${data[0]?.id}`
}

const whole = ({ perSecond, failed }: Figures): number => {
  if (failed > 0) throw new Error(`${failed} failed`)
  return perSecond
}

const logins = async (origin: string, seconds: number, turns: number): Promise<string> => {
  const kept = await hashPassword(demoPassword)
  const found = { hashes: [] as number[], logins: [] as number[] }
  for (let turn = 0; turn < turns; turn++) {
    found.hashes.push(whole(await measure(() => isPassword(demoPassword, kept), PEOPLE, seconds)))
    found.logins.push(whole(await measure(() => signIn(origin), PEOPLE, seconds)))
  }
  const ratio = median(found.logins.map((each, turn) => each / (found.hashes[turn] ?? 0)))
  return `${median(found.logins).toFixed(1)} a second, of ${median(found.hashes).toFixed(1)} that Argon2id alone takes: ${ratio.toFixed(2)}`
}

type One = { url: string; headers: Record<string, string> }

/** The same requests, a fixed number a second; what was late because of the one before is counted as late. */
const underLogins = async (origin: string, one: One, seconds: number, turns: number): Promise<string> => {
  const ask = async (): Promise<{ p50: number; p99: number }> => {
    const { latency, non2xx, errors } = await autocannon({
      ...one,
      connections: PEOPLE,
      overallRate: RATE,
      duration: Math.max(5, seconds * 2),
    })
    if (non2xx + errors > 0) throw new Error(`${non2xx + errors} requests failed`)
    return { p50: latency.p50, p99: latency.p99 }
  }
  await ask() // what is slow once is not what is asked
  const found = { idle: [] as number[], busy: [] as number[] }
  for (let turn = 0; turn < turns; turn++) {
    found.idle.push((await ask()).p99)
    let over = false
    const people = Array.from({ length: PEOPLE }, async () => {
      while (!over) await signIn(origin)
    })
    found.busy.push((await ask()).p99)
    over = true
    await Promise.all(people)
  }
  const ratio = median(found.busy.map((each, turn) => each / (found.idle[turn] ?? 0)))
  return `p99 ${median(found.idle).toFixed(1)} ms, and ${median(found.busy).toFixed(1)} ms while ${PEOPLE} people sign in: ${ratio.toFixed(2)}`
}

/** By the clock of one connection, in transactions that are rolled back. */
const entering = async (ownerUrl: string, apiUrl: string, turns: number): Promise<string[]> => {
  const secret = randomBytes(32)
  const owner = new pg.Client({ connectionString: ownerUrl })
  await owner.connect()
  const { rows } = await owner.query<{ tenant_id: string }>(
    `select s.tenant_id
       from app.users u
       cross join lateral app.start_session(u.id, null, null, $2, $3, 'bench', '1 hour', '1 hour', 'bench', null, 'bench') s
      where u.email = $1`,
    [demoEmail('owner', 'acme'), createHash('sha256').update(secret).digest(), randomBytes(32)],
  )
  await owner.end()
  const values = [secret, rows[0]?.tenant_id, null, 'projects:read', 'bench', '192.0.2.7']

  const client = new pg.Client({ connectionString: apiUrl })
  await client.connect()
  const enter = {
    name: 'enter',
    text: 'select tenant_id, actor_id, role, session_id from app.enter($1, $2, $3, $4, $5, $6)',
  }
  const nothing = {
    name: 'nothing',
    text: 'select $2::uuid, $2::uuid as b, $4::text, $2::uuid as c where $1::bytea is not null and $3::text is null and $5::text <> $6::text',
  }
  const read = { name: 'read', text: 'select app.tenant_id()' }
  const none = { name: 'none', text: 'select null::uuid' }

  const perTransaction = async (first: typeof enter, then: typeof read): Promise<number> => {
    const count = 500
    const from = performance.now()
    for (let i = 0; i < count; i++) {
      await client.query('begin read only')
      await client.query({ ...first, values })
      await client.query(then)
      await client.query('rollback')
    }
    return ((performance.now() - from) * 1_000) / count
  }
  const found = { bare: [] as number[], entering: [] as number[], reading: [] as number[] }
  try {
    await perTransaction(enter, read)
    await perTransaction(nothing, none)
    for (let turn = 0; turn < turns * 3; turn++) {
      const [bare, entered, both] = [
        await perTransaction(nothing, none),
        await perTransaction(enter, none),
        await perTransaction(enter, read),
      ]
      found.bare.push(bare)
      found.entering.push(entered - bare)
      found.reading.push(both - entered)
    }
  } finally {
    await client.end()
  }
  return [
    `entering, the session checked and the context sealed: ${median(found.entering).toFixed(0)} µs a request, where four statements that do nothing take ${median(found.bare).toFixed(0)} µs`,
    `reading the sealed context: ${median(found.reading).toFixed(0)} µs a statement`,
  ]
}

const refreshes = async (origin: string, { url, headers }: One, seconds: number, turns: number): Promise<string> => {
  const sessions = await Promise.all(Array.from({ length: PEOPLE }, () => signIn(origin)))
  const idle = [...sessions]
  const refresh = async () => {
    const session = idle.pop()
    if (!session) throw new Error('more at once than sessions')
    const { refresh_token } = await post<Tokens>(`${origin}/auth/token/refresh`, {
      refresh_token: session.refresh_token,
    })
    idle.push({ ...session, refresh_token })
  }
  const get = async () => {
    const answer = await fetch(url, { headers })
    if (!answer.ok) throw new Error(`${url} answered ${answer.status}`)
    await answer.arrayBuffer()
  }
  const found = { refreshes: [] as number[], gets: [] as number[] }
  for (let turn = 0; turn < turns; turn++) {
    found.gets.push(whole(await measure(get, PEOPLE, seconds)))
    found.refreshes.push(whole(await measure(refresh, PEOPLE, seconds)))
  }
  const ratio = median(found.refreshes.map((each, turn) => each / (found.gets[turn] ?? 0)))
  return `${median(found.refreshes).toFixed(0)} a second, beside ${median(found.gets).toFixed(0)} of GET one: ${ratio.toFixed(2)}`
}
