import { randomUUID } from 'node:crypto'
import { connect } from 'node:net'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Answer, type Client, type Person, world } from '../harness.ts'
import { asSystem } from '../sessions.ts'

// Which tenant a request is in: claim, header and subdomain in all their combinations, and in all their spellings.

const it = world({ env: { BASE_DOMAIN: 'bulkhead.test' } })
const proxied = world({ env: { BASE_DOMAIN: 'bulkhead.test', TRUST_PROXY: 'loopback' } })

let person: Person
/** Ids by name: acme and globex are the person's, initech exists and is not. */
let ids: Record<string, string>
/** As the person, by the tenant that the token names. */
let as: Record<string, Client>

const joinGlobex = async (at: typeof it): Promise<Person> => {
  const globex = await at.as('owner', 'globex')
  await asSystem(
    at.superuser,
    globex.tenantId,
    `insert into app.memberships (user_id, role) select id, 'member' from app.users where email = 'member@acme.test'`,
  )
  return at.as('member', 'acme')
}

beforeAll(async () => {
  person = await joinGlobex(it)
  const registered = await it.anybody.post('/auth/register', {
    email: 'peter@initech.test',
    password: 'a long enough passphrase',
    name: 'Peter',
    tenant_name: 'Initech',
  })
  const { rows } = await it.superuser.query('select slug, tenant_id as id from app.tenants')
  ids = Object.fromEntries(rows.map(({ slug, id }) => [slug, id]))
  expect(ids.initech).toBe(registered.json().tenant.id)

  const choose = async (slug: string) => {
    const answer = await person.post('/auth/switch-tenant', { tenant_id: ids[slug] })
    return it.client({ authorization: `Bearer ${answer.json().access_token}` })
  }
  as = { none: person, acme: await choose('acme'), globex: await choose('globex') }
})

const verdict = (answer: Answer) => `${answer.statusCode} ${answer.statusCode < 400 ? 'ok' : answer.json().code}`
const bare = (answer: Answer) => answer.body.replace(/"request_id":"[^"]+"/, '')

/** What the contract says of a request that names these. `none` names nothing, `nobody` no tenant that exists. */
const expected = (claim: string, header: string, host: string): string => {
  const own = (name: string) => name === 'acme' || name === 'globex'
  const named = [claim, header, host].filter((name) => name !== 'none')
  if (named.length === 0) return '400 tenant_required'
  if (header === 'garbage') return claim === 'none' ? '400 invalid' : '400 tenant_conflict'
  // a header and a host that name nobody name two
  const agree = new Set(named).size === 1 && !(header === 'nobody' && host === 'nobody')
  if (agree) return named.every(own) ? '200 ok' : '403 not_a_member'
  return named.some(own) ? '400 tenant_conflict' : '403 not_a_member'
}

describe.each(['none', 'acme', 'globex'])('a token that names %s', (claim) => {
  test.each(['none', 'acme', 'globex', 'initech', 'nobody', 'garbage'])(
    'with a header that names %s',
    async (header) => {
      for (const host of ['none', 'acme', 'globex', 'initech', 'nobody']) {
        const answer = await as[claim]?.get('/projects?sort=-name', {
          ...(header !== 'none' && { 'x-tenant-id': ids[header] ?? (header === 'nobody' ? randomUUID() : 'acme') }),
          host: host === 'none' ? 'api.bulkhead.test' : `${host}.bulkhead.test`,
        })
        if (!answer) throw new Error('nobody asked')
        expect(verdict(answer), `and a host that names ${host}`).toBe(expected(claim, header, host))
        if (answer.statusCode !== 200) continue
        const entered = [claim, header, host].find((name) => name !== 'none')
        expect(answer.json().data.at(-1).name).toBe(entered === 'acme' ? 'apollo' : 'aurora')
      }
    },
  )
})

test('a refusal is the same in every byte, whichever foreign or unknown tenants were named', async () => {
  const named = [
    { 'x-tenant-id': ids.initech ?? '' },
    { 'x-tenant-id': randomUUID() },
    { host: 'initech.bulkhead.test' },
    { host: 'nobody.bulkhead.test' },
    { host: 'a.b.bulkhead.test' },
    { host: 'xn--nxasmq6b.bulkhead.test' },
    { host: `${'x'.repeat(300)}.bulkhead.test` },
    { 'x-tenant-id': ids.initech ?? '', host: 'initech.bulkhead.test' },
    { 'x-tenant-id': randomUUID(), host: 'initech.bulkhead.test' },
    { 'x-tenant-id': ids.initech ?? '', host: 'nobody.bulkhead.test' },
  ]
  const answers: Answer[] = []
  for (const headers of named) answers.push(await person.get('/projects', headers))

  expect(answers.map(verdict)).toEqual(answers.map(() => '403 not_a_member'))
  expect(new Set(answers.map(bare)).size).toBe(1)
  const shapes = answers.map(({ headers }) => Object.keys(headers).sort().join())
  expect(new Set(shapes).size).toBe(1)
})

test('a membership that was taken away names nothing any more, beside another tenant or alone', async () => {
  const set = (status: string) =>
    asSystem(
      it.superuser,
      ids.globex ?? '',
      'update app.memberships set status = $1 where user_id = $2 and tenant_id = $3',
      [status, person.userId, ids.globex],
    )
  await set('deactivated')
  const alone = await person.get('/projects', { 'x-tenant-id': ids.globex ?? '' })
  const host = await person.get('/projects', { host: 'globex.bulkhead.test' })
  const claim = await as.globex?.get('/projects')
  const beside = await as.globex?.get('/projects', { host: 'acme.bulkhead.test' })
  await set('active')

  expect([alone, host, claim, beside].map((answer) => answer && verdict(answer))).toEqual([
    '403 not_a_member',
    '403 not_a_member',
    '403 not_a_member',
    '400 tenant_conflict',
  ])
})

describe('as bytes', () => {
  const ask = async (lines: string[], target = '/api/v1/projects?sort=-name', at = it): Promise<string> => {
    const token = (at === it ? person : await at.as('member', 'acme')).accessToken
    const head = [`GET ${target} HTTP/1.1`, `Authorization: Bearer ${token}`, 'Connection: close', ...lines]
    const heard = await converse(at.origin, `${head.join('\r\n')}\r\n\r\n`)
    const status = /^HTTP\/1\.1 (\d+)/.exec(heard)?.[1]
    const body = heard.slice(heard.indexOf('\r\n\r\n'))
    const [, said] = /"code":"(\w+)"/.exec(body) ?? /"name":"(\w+)"[^}]*\}\],"next_cursor"/.exec(body) ?? []
    return `${status} ${said}`
  }

  test.each([
    ['200 apollo', 'the subdomain', ['Host: acme.bulkhead.test']],
    ['200 apollo', 'in upper case', ['HOST: ACME.BULKHEAD.TEST']],
    ['200 apollo', 'with a port', ['Host: acme.bulkhead.test:8443']],
    ['200 apollo', 'with an empty port', ['Host: acme.bulkhead.test:']],
    ['200 apollo', 'with the dot of the root', ['Host: acme.bulkhead.test.']],
    ['200 aurora', 'with both', ['Host: globex.bulkhead.test.:80']],
    ['400 tenant_required', 'the base itself', ['Host: bulkhead.test']],
    ['400 tenant_required', 'a name of the service', ['Host: www.bulkhead.test']],
    ['400 tenant_required', 'a name that ends like the base', ['Host: acmebulkhead.test']],
    ['400 tenant_required', 'the base below another', ['Host: acme.bulkhead.test.evil.test']],
    ['400 tenant_required', 'an address', ['Host: 127.0.0.1:3000']],
    ['400 tenant_required', 'an address of IPv6', ['Host: [::1]:3000']],
    ['400 tenant_required', 'an address that was mapped', ['Host: [::ffff:127.0.0.1]']],
    ['400 tenant_required', 'two dots', ['Host: acme.bulkhead.test..']],
    [
      '400 tenant_required',
      'a host that is only said to be forwarded',
      ['Host: x', 'X-Forwarded-Host: acme.bulkhead.test'],
    ],
    ['403 not_a_member', 'below a tenant', ['Host: www.acme.bulkhead.test']],
    ['403 not_a_member', 'nothing before the dot', ['Host: .bulkhead.test']],
    ['403 not_a_member', 'a wildcard', ['Host: %.bulkhead.test']],
    ['403 not_a_member', 'a quote', ["Host: acme'--.bulkhead.test"]],
    ['400 malformed', 'two hosts', ['Host: acme.bulkhead.test', 'Host: globex.bulkhead.test']],
    ['400 malformed', 'the same host twice', ['Host: acme.bulkhead.test', 'Host: acme.bulkhead.test']],
    ['400 malformed', 'no host', []],
  ])('%s: %s', async (verdict, _what, lines) => {
    expect(await ask(lines)).toBe(verdict)
  })

  test('X-Tenant-ID: one, and one UUID; case and the spaces around it do not matter', async () => {
    const [acme = '', globex = ''] = [ids.acme, ids.globex]
    const header = (value: string) => ask(['Host: x', `X-Tenant-ID: ${value}`])
    expect(await header(acme)).toBe('200 apollo')
    expect(await header(acme.toUpperCase())).toBe('200 apollo')
    expect(await header(`  ${acme}\t`)).toBe('200 apollo')
    for (const value of [
      `{${acme}}`,
      `urn:uuid:${acme}`,
      acme.replaceAll('-', ''),
      `${acme},${acme}`,
      `${acme}, ${globex}`,
      `"${acme}"`,
      'acme',
      'null',
      '*',
      `${acme}' or '1'='1`,
      'x'.repeat(5_000),
    ]) {
      expect(await header(value), value).toBe('400 invalid')
    }
    const twice = (...values: string[]) => ask(['Host: x', ...values.map((value) => `x-tenant-id: ${value}`)])
    expect(await twice(acme, acme)).toBe('400 malformed')
    expect(await twice(acme, globex)).toBe('400 malformed')
    expect(await ask(['Host: x', `X-Tenant-ID: ${acme}`, 'X-Tenant-ID:'])).toBe('400 malformed')
  })

  test('a target with a host of its own names the same as the Host header, or is refused', async () => {
    const target = 'http://acme.bulkhead.test/api/v1/projects?sort=-name'
    expect(await ask(['Host: acme.bulkhead.test'], target)).toBe('200 apollo')
    expect(await ask(['Host: globex.bulkhead.test'], target)).toBe('400 malformed')
    expect(await ask(['Host: x'], target)).toBe('400 malformed')
    expect(await ask(['Host: x'], 'http://x@acme.bulkhead.test/api/v1/projects')).toBe('400 malformed')
  })

  describe('behind a proxy that is trusted', () => {
    beforeAll(() => joinGlobex(proxied))

    test.each([
      ['200 apollo', 'the host that it says', ['Host: inner:3000', 'X-Forwarded-Host: acme.bulkhead.test']],
      [
        '200 aurora',
        'the last of several, which is its own',
        ['Host: inner', 'X-Forwarded-Host: acme.bulkhead.test, globex.bulkhead.test'],
      ],
      [
        '200 aurora',
        'the last of several headers',
        ['Host: inner', 'X-Forwarded-Host: acme.bulkhead.test', 'X-Forwarded-Host: globex.bulkhead.test'],
      ],
      ['200 aurora', 'the Host header, when it says none', ['Host: globex.bulkhead.test']],
      ['400 tenant_required', 'none, when it says another', ['Host: acme.bulkhead.test', 'X-Forwarded-Host: x.test']],
    ])('%s: %s', async (verdict, _what, lines) => {
      expect(await ask(lines, undefined, proxied)).toBe(verdict)
    })
  })
})

/** Everything that comes back for these bytes, until the server closes. */
const converse = (origin: string, bytes: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(origin).port), '127.0.0.1')
    let heard = ''
    socket.on('data', (chunk) => {
      heard += chunk
    })
    socket.on('error', reject)
    socket.on('close', () => resolve(heard))
    socket.write(bytes)
  })
