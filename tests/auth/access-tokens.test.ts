import {
  createHmac,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  constants as padding,
  randomBytes,
  randomUUID,
  sign,
} from 'node:crypto'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { makeVerifier } from '../../src/auth/access-tokens.ts'
import { type Answer, type Person, signIn, world } from '../harness.ts'

const newKey = () => generateKeyPairSync('rsa', { modulusLength: 2048 })
const [ours, older, foreign] = [newKey(), newKey(), newKey()]
const jwk = (key: KeyObject, kid: string) => ({ ...key.export({ format: 'jwk' }), kid, alg: 'RS256', use: 'sig' })

const it = world({ env: { JWT_KEYS: JSON.stringify([jwk(ours.privateKey, 'new'), jwk(older.privateKey, 'old')]) } })
let acme: Person
let globex: Person
let header: Json
let claims: Json

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
  const [head = '', body = ''] = acme.accessToken.split('.')
  header = read(head)
  claims = read(body)
})

// A workshop for tokens

type Json = Record<string, unknown>
type Seal = (input: string) => Buffer

const segment = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
const read = (text: string): Json => JSON.parse(Buffer.from(text, 'base64url').toString()) as Json
const now = () => Math.floor(Date.now() / 1_000)

const rsa =
  (key: KeyObject, hash = 'sha256'): Seal =>
  (input) =>
    sign(hash, Buffer.from(input), key)
const hmac =
  (secret: string | Buffer, hash = 'sha256'): Seal =>
  (input) =>
    createHmac(hash, secret).update(input).digest()
const unsigned: Seal = () => Buffer.alloc(0)

const make = (head: unknown, body: unknown, seal: Seal = rsa(ours.privateKey)): string => {
  const input = `${segment(head)}.${segment(body)}`
  return `${input}.${seal(input).toString('base64url')}`
}

const publicPem = ours.publicKey.export({ type: 'spki', format: 'pem' }) as string
const pkcs1Pem = ours.publicKey.export({ type: 'pkcs1', format: 'pem' }) as string
const publicJwk = JSON.stringify(jwk(ours.publicKey, 'new'))
const ed = generateKeyPairSync('ed25519').privateKey
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
const pss = (input: string) =>
  sign('sha256', Buffer.from(input), { key: ours.privateKey, padding: padding.RSA_PKCS1_PSS_PADDING })
const embedded = jwk(createPublicKey(foreign.privateKey), 'new')

/** Parts of the genuine token, to be taken apart. */
const parts = () => acme.accessToken.split('.') as [string, string, string]
const withHead = (change: Json) => make({ ...header, ...change }, claims)
const withClaims = (change: Json) => make(header, { ...claims, ...change })
const swapped = (change: Json) => {
  const [head, body, seal] = parts()
  return `${head}.${segment({ ...read(body), ...change })}.${seal}`
}
const reseal = (seal: string) => parts().slice(0, 2).concat(seal).join('.')

const forgeries: Record<string, Record<string, () => string>> = {
  'the signature': {
    'is missing': () => parts().slice(0, 2).join('.'),
    'is empty': () => reseal(''),
    'is zero': () => reseal(Buffer.alloc(256).toString('base64url')),
    'is short of a byte': () => reseal(Buffer.from(parts()[2], 'base64url').subarray(1).toString('base64url')),
    'has a byte more': () =>
      reseal(Buffer.concat([Buffer.alloc(1), Buffer.from(parts()[2], 'base64url')]).toString('base64url')),
    'has a character more': () => `${acme.accessToken}A`,
    'is padded': () => `${acme.accessToken}==`,
    'is of another token': () => reseal(globex.accessToken.split('.')[2] ?? ''),
    'spells its last character otherwise': () => {
      const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
      const last = alphabet.indexOf(acme.accessToken.at(-1) ?? '')
      return acme.accessToken.slice(0, -1) + alphabet[last + 1]
    },
    'is by another key of the same kid': () => make(header, claims, rsa(foreign.privateKey)),
    'is by the other of our keys': () => make(header, claims, rsa(older.privateKey)),
  },
  'the algorithm': {
    'is none': () => make({ ...header, alg: 'none' }, claims, unsigned),
    'is None': () => make({ ...header, alg: 'None' }, claims, unsigned),
    'is nOnE': () => make({ ...header, alg: 'nOnE' }, claims, unsigned),
    'is none, and the signature good': () => withHead({ alg: 'none' }),
    'is HS256 with the public key (SPKI) as secret': () => make({ ...header, alg: 'HS256' }, claims, hmac(publicPem)),
    'is HS256 with the public key (SPKI, trimmed) as secret': () =>
      make({ ...header, alg: 'HS256' }, claims, hmac(publicPem.trim())),
    'is HS256 with the public key (PKCS 1) as secret': () => make({ ...header, alg: 'HS256' }, claims, hmac(pkcs1Pem)),
    'is HS256 with the public key (JWK) as secret': () => make({ ...header, alg: 'HS256' }, claims, hmac(publicJwk)),
    'is HS256 with no secret': () => make({ ...header, alg: 'HS256' }, claims, hmac('')),
    'is HS512 with the public key as secret': () =>
      make({ ...header, alg: 'HS512' }, claims, hmac(publicPem, 'sha512')),
    'says RS256 over an HMAC with the public key': () => make(header, claims, hmac(publicPem)),
    'is RS384 by our key': () => make({ ...header, alg: 'RS384' }, claims, rsa(ours.privateKey, 'sha384')),
    'is RS512 by our key': () => make({ ...header, alg: 'RS512' }, claims, rsa(ours.privateKey, 'sha512')),
    'is PS256 by our key': () => make({ ...header, alg: 'PS256' }, claims, pss),
    'says RS256 over a PSS signature': () => make(header, claims, pss),
    'is ES256': () =>
      make({ ...header, alg: 'ES256' }, claims, (input) =>
        sign('sha256', Buffer.from(input), { key: ec, dsaEncoding: 'ieee-p1363' }),
      ),
    'is EdDSA': () => make({ ...header, alg: 'EdDSA' }, claims, (input) => sign(null, Buffer.from(input), ed)),
    'is in lower case': () => withHead({ alg: 'rs256' }),
    'is a list': () => withHead({ alg: ['RS256'] }),
    'is missing': () => withHead({ alg: undefined }),
    'is null': () => withHead({ alg: null }),
  },
  'the kid': {
    'is unknown': () => withHead({ kid: 'unknown' }),
    'is unknown, and the signature foreign': () => make({ ...header, kid: 'mine' }, claims, rsa(foreign.privateKey)),
    'is missing': () => withHead({ kid: undefined }),
    'is empty': () => withHead({ kid: '' }),
    'is null': () => withHead({ kid: null }),
    'is a number': () => withHead({ kid: 0 }),
    'is a list': () => withHead({ kid: ['new'] }),
    'is a property of every object': () => withHead({ kid: '__proto__' }),
    'is a path': () => make({ ...header, kid: '../../../dev/null' }, claims, hmac('')),
    'is SQL': () => withHead({ kid: `' or '1'='1` }),
    'is of another case': () => withHead({ kid: 'NEW' }),
  },
  'the header': {
    'brings its own key (jwk)': () => make({ ...header, jwk: embedded }, claims, rsa(foreign.privateKey)),
    'brings its own key (jwk) and no kid': () =>
      make({ ...header, kid: undefined, jwk: embedded }, claims, rsa(foreign.privateKey)),
    'says where its key is (jku)': () =>
      make({ ...header, jku: 'http://127.0.0.1:1/jwks.json' }, claims, rsa(foreign.privateKey)),
    'says where its certificate is (x5u)': () =>
      make({ ...header, x5u: 'http://127.0.0.1:1/cert.pem' }, claims, rsa(foreign.privateKey)),
    'brings a certificate (x5c)': () => make({ ...header, x5c: ['MIIB'] }, claims, rsa(foreign.privateKey)),
    'has a critical extension': () => withHead({ crit: ['urn:example:x'], 'urn:example:x': true }),
    'has exp as critical extension': () => withHead({ crit: ['exp'], exp: now() + 60 }),
    'has an empty list of critical extensions': () => withHead({ crit: [] }),
    'has b64 off': () => withHead({ crit: ['b64'], b64: false }),
    'has no typ': () => withHead({ typ: undefined }),
    'has the typ of other tokens': () => withHead({ typ: 'JWT' }),
    'is a list': () => make([header], claims),
    'is null': () => make(null, claims),
    'is no JSON': () => make('{"alg":"RS256","kid":"new"', claims),
  },
  'the time': {
    'is over': () => withClaims({ exp: now() - 1 }),
    'is over this very second': () => withClaims({ exp: now() }),
    'has no end': () => withClaims({ exp: undefined }),
    'has an end of null': () => withClaims({ exp: null }),
    'has an end in words': () => withClaims({ exp: '2999-01-01T00:00:00Z' }),
    'has an end that is a text of digits': () => withClaims({ exp: String(now() + 60) }),
    'has no beginning': () => withClaims({ iat: undefined }),
    'has a beginning in words': () => withClaims({ iat: 'yesterday' }),
    'begins in the future': () => withClaims({ iat: now() + 60 }),
    'is not yet (nbf)': () => withClaims({ nbf: now() + 60 }),
    'is not yet, in words': () => withClaims({ nbf: 'tomorrow' }),
    'began long ago and never ends': () => withClaims({ iat: now() - 7_200, exp: now() + 1e9 }),
    'ends beyond all numbers': () =>
      make(header, JSON.stringify({ ...claims, iat: 0 }).replace(/"exp":\d+/, '"exp":1e999')),
  },
  'the claims': {
    'have no iss': () => withClaims({ iss: undefined }),
    'are of another issuer': () => withClaims({ iss: 'https://elsewhere.example' }),
    'have a list of issuers': () => withClaims({ iss: ['bulkhead'] }),
    'have no aud': () => withClaims({ aud: undefined }),
    'are for another audience': () => withClaims({ aud: 'bulkhead-operators' }),
    'are for an audience that begins alike': () => withClaims({ aud: 'bulkhead-api-2' }),
    'have a list of audiences without us': () => withClaims({ aud: ['elsewhere', 'bulkhead'] }),
    'have no sub': () => withClaims({ sub: undefined }),
    'have a sub that is no id': () => withClaims({ sub: `' or true --` }),
    'have no sid': () => withClaims({ sid: undefined }),
    'have a short sid': () => withClaims({ sid: randomBytes(31).toString('base64url') }),
    'have a long sid': () => withClaims({ sid: randomBytes(33).toString('base64url') }),
    'have a sid of hexadecimal': () => withClaims({ sid: randomBytes(32).toString('hex') }),
    'have a list of sids': () => withClaims({ sid: [claims.sid] }),
    'have a sid that nobody has': () => withClaims({ sid: randomBytes(32).toString('base64url') }),
    'have a tenant_id that is none': () => withClaims({ tenant_id: 'acme' }),
    'have a tenant_id of null': () => withClaims({ tenant_id: null }),
    'have a jti that is no text': () => withClaims({ jti: 7 }),
    'are a list': () => make(header, [claims]),
    'are a text': () => make(header, '"text"'),
    'are null': () => make(header, 'null'),
    'are no JSON': () => make(header, '{"sub":'),
  },
  'under a good signature somebody': {
    'swapped sub': () => swapped({ sub: globex.userId }),
    'swapped sid': () => swapped({ sid: read(globex.accessToken.split('.')[1] ?? '').sid }),
    'swapped tenant_id': () => swapped({ tenant_id: globex.tenantId }),
    'removed tenant_id': () => swapped({ tenant_id: undefined }),
    'moved the end': () => swapped({ exp: now() + 1e6 }),
    'swapped the whole payload': () => [parts()[0], globex.accessToken.split('.')[1], parts()[2]].join('.'),
  },
  'the token': {
    'is a word': () => 'garbage',
    'is null': () => 'null',
    'is only dots': () => '..',
    'has four parts': () => `${acme.accessToken}.${parts()[2]}`,
    'is encrypted': () => [...parts(), 'AAAA', 'AAAA'].join('.'),
    'is JSON': () => JSON.stringify({ protected: parts()[0], payload: parts()[1], signature: parts()[2] }),
    'is in base64 and not base64url': () => acme.accessToken.replaceAll('-', '+').replaceAll('_', '/').concat('/'),
    'is two tokens': () => `${acme.accessToken} ${acme.accessToken}`,
    'is a list of tokens': () => `${acme.accessToken},${acme.accessToken}`,
    'is a refresh token': () => acme.refreshToken,
    'is a cursor or an id': () => randomUUID(),
    'has 5,000 characters, the signature good': () => withClaims({ padding: 'x'.repeat(4_000) }),
    'has 12,000 characters': () => `${parts()[0]}.${'A'.repeat(12_000)}.${parts()[2]}`,
    'has bytes beyond ASCII': () => `${acme.accessToken.slice(0, -1)}é`,
  },
}

const paths = ['/projects', '/auth/profile']
const ask = (path: string, token: string) => it.anybody.get(path, { authorization: `Bearer ${token}` })

/** Byte for byte, but for the request id. */
const plain = ({ statusCode, headers, body }: Answer) => ({
  statusCode,
  type: headers['content-type']?.split(';')[0],
  challenge: headers['www-authenticate'],
  body: body.replaceAll(String(headers['x-request-id']), ''),
})
const refused = (challenge = 'Bearer error="invalid_token"') => ({
  statusCode: 401,
  type: 'application/problem+json',
  challenge,
  body: '{"type":"/problems/unauthenticated","title":"Valid credentials are needed.","status":401,"detail":"Valid credentials are needed.","code":"unauthenticated","request_id":""}',
})

describe('200', () => {
  test.each([
    ['the token as it was given', () => acme.accessToken],
    ['made again with our key', () => make(header, claims)],
    [
      'with the members of its header in another order',
      () => make({ kid: 'new', typ: 'at+jwt', alg: 'RS256' }, claims),
    ],
    ['signed with a key from before', () => make({ ...header, kid: 'old' }, claims, rsa(older.privateKey))],
    ['with a clock some seconds ahead of ours', () => withClaims({ iat: now() + 3, nbf: now() + 3 })],
    ['with claims that we do not know', () => withClaims({ scope: 'everything', roles: ['owner'] })],
    ['with headers that we do not look at', () => withHead({ jku: 'http://127.0.0.1:1/', jwk: embedded })],
  ])('%s', async (_what, token) => {
    for (const path of paths) expect((await ask(path, token())).statusCode).toBe(200)
  })

  test.each(['bearer', 'BEARER', 'Bearer '])('the scheme written "%s"', async (scheme) => {
    const answer = await it.anybody.get('/auth/profile', { authorization: `${scheme} ${acme.accessToken}` })
    expect(answer.statusCode).toBe(200)
  })
})

describe.each(Object.entries(forgeries))('401: %s', (_part, cases) => {
  test.each(Object.entries(cases))('%s', async (_what, forge) => {
    for (const path of paths) expect(plain(await ask(path, forge()))).toEqual(refused())
    const verified = await it.anybody.post('/auth/token/verify', { token: forge() })
    expect([verified.statusCode, verified.json()]).toEqual([200, { active: false }])
  })
})

describe('401: the session behind a good token', () => {
  const fresh = () => signIn(it.anybody, it.client, 'member@acme.test', demoPassword)
  const expectRefused = async (person: Person) => {
    for (const path of paths) expect(plain(await person.get(path))).toEqual(refused())
    const verified = await it.anybody.post('/auth/token/verify', { token: person.accessToken })
    expect(verified.json()).toEqual({ active: false })
  }

  test('was ended', async () => {
    const person = await fresh()
    expect((await person.get('/projects')).statusCode).toBe(200)
    expect((await person.post('/auth/logout')).statusCode).toBe(204)
    await expectRefused(person)
  })

  test('has come to its end', async () => {
    const person = await fresh()
    await it.superuser.query(`update app.sessions set expires_at = now() where user_id = $1`, [person.userId])
    await expectRefused(person)
  })

  test('is of a person who was deactivated', async () => {
    const person = await fresh()
    await it.superuser.query(`update app.users set status = 'deactivated' where id = $1`, [person.userId])
    await expectRefused(person)
    const again = await it.anybody.post('/auth/login', { email: person.email, password: demoPassword })
    expect([again.statusCode, again.json().code]).toEqual([401, 'invalid_credentials'])
    await it.superuser.query(`update app.users set status = 'active' where id = $1`, [person.userId])
  })
})

describe('401: the Authorization header', () => {
  test.each([
    ['is missing', undefined, 'Bearer'],
    ['is empty', '', 'Bearer'],
    ['names the scheme alone', 'Bearer', 'Bearer'],
    ['is of another scheme', 'Basic b3duZXI6cGFzc3dvcmQ=', 'Bearer'],
    ['is garbage', '\u00ff\u00fe', 'Bearer'],
  ])('%s', async (_what, authorization, challenge) => {
    for (const path of paths) {
      const answer = await it.anybody.get(path, authorization === undefined ? {} : { authorization })
      expect(plain(answer)).toEqual(refused(challenge))
    }
  })

  test('has the token alone, or anything around it', async () => {
    const { accessToken } = acme
    for (const authorization of [
      accessToken,
      `JWT ${accessToken}`,
      `Bearer:${accessToken}`,
      `Bearer "${accessToken}"`,
    ]) {
      expect((await it.anybody.get('/projects', { authorization })).statusCode).toBe(401)
    }
  })

  test('431 and nothing worse, when the token is larger than all headers may be', async () => {
    expect((await ask('/projects', 'A'.repeat(20_000))).statusCode).toBe(431)
    expect((await acme.get('/projects')).statusCode).toBe(200)
  })

  test('a token in the query, in a cookie or in the body is none', async () => {
    const token = acme.accessToken
    expect((await it.anybody.get(`/auth/profile?access_token=${token}`)).statusCode).toBe(401)
    expect((await it.anybody.get('/auth/profile', { cookie: `access_token=${token}` })).statusCode).toBe(401)
  })
})

describe('what is refused', () => {
  test('is every change of one character', () => {
    const { verify } = it.app.accessTokens
    const { accessToken } = acme
    for (let at = 0; at < accessToken.length; at++) {
      for (const other of ['A', 'B', '-', '.', '=', ' ']) {
        if (accessToken[at] === other) continue
        const changed = accessToken.slice(0, at) + other + accessToken.slice(at + 1)
        expect(verify(changed), `${other} at ${at}`).toBeUndefined()
      }
    }
    expect(verify(accessToken)).toBeDefined()
  })

  test('is everything that @fastify/jwt with the same demands refuses', () => {
    const { accessTokens, jwt } = it.app
    const isGood = (token: string): boolean => {
      try {
        jwt.verify(token)
        return true
      } catch {
        return false
      }
    }
    const odd = fc.oneof(
      fc.jsonValue(),
      fc.constantFrom('RS256', 'HS256', 'none', 'at+jwt', 'JWT', 'new', 'old', 'bulkhead', 'bulkhead-api'),
    )
    const time = fc
      .integer({ min: -4_000, max: 4_000 })
      .filter((seconds) => Math.abs(seconds) > 10)
      .map((seconds) => now() + seconds)
    const member = (name: string, value: fc.Arbitrary<unknown>) => value.map((value): Json => ({ [name]: value }))
    const missing = fc.constant(undefined)
    // one thing wrong at a time in header and claims, so that much comes close
    const heads = fc.oneof(
      fc.constant({}),
      ...['alg', 'typ', 'kid', 'crit', 'jwk'].map((name) => member(name, fc.oneof(odd, missing))),
    )
    const bodies = fc.oneof(
      fc.constant({}),
      ...['iss', 'aud', 'sub', 'sid', 'tenant_id'].map((name) => member(name, fc.oneof(odd, missing))),
      ...['exp', 'iat', 'nbf'].map((name) => member(name, fc.oneof(time, odd, missing))),
    )
    const seals = fc.constantFrom(
      rsa(ours.privateKey),
      rsa(ours.privateKey),
      rsa(foreign.privateKey),
      hmac(publicPem),
      unsigned,
    )

    let accepted = 0
    fc.assert(
      fc.property(heads, bodies, seals, (head, body, seal) => {
        const token = make({ ...header, ...head }, { ...claims, ...body }, seal)
        if (accessTokens.verify(token) === undefined) return
        accepted += 1
        expect(isGood(token)).toBe(true)
      }),
      { numRuns: 500 },
    )
    expect(accepted).toBeGreaterThan(0)
    expect(isGood(make(header, claims))).toBe(true)
  })
})

test('a token lives no longer than tokens are meant to, also when the clock of its maker was wrong', () => {
  const demands = { keys: [{ kid: 'new', ...ours }], issuer: 'bulkhead', audience: 'bulkhead-api' }
  const [short, long] = [600_000, 7_200_000].map((ttlMs) => makeVerifier({ ...demands, ttlMs })) as [never, never]
  const verify = (verifier: (token: string) => unknown, age: number) =>
    verifier(withClaims({ iat: now() - age, exp: now() + 60 })) !== undefined

  expect([verify(short, 3_500), verify(short, 3_700)]).toEqual([true, false])
  expect([verify(long, 7_000), verify(long, 7_300)]).toEqual([true, false])
})

test('the key set has the public keys, and nothing of the private ones', async () => {
  const answer = await it.anybody.get('//.well-known/jwks.json')

  expect(answer.statusCode).toBe(200)
  expect(answer.headers['cache-control']).toBe('public, max-age=300')
  const { n, e } = ours.publicKey.export({ format: 'jwk' })
  const { n: oldN } = older.publicKey.export({ format: 'jwk' })
  expect(answer.json()).toEqual({
    keys: [
      { kty: 'RSA', n, e, kid: 'new', alg: 'RS256', use: 'sig' },
      { kty: 'RSA', n: oldN, e, kid: 'old', alg: 'RS256', use: 'sig' },
    ],
  })
})
