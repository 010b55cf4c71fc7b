import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import http from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Answer, type Person, testEnvironment, world } from '../harness.ts'
import { makeProject } from '../projects.ts'
import { asSystem } from '../sessions.ts'

const MAX = 300_000
const it = world({ env: { FILE_MAX_SIZE: String(MAX) } })
let acme: Person
let globex: Person
let member: Person
let folder: string

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
  member = await it.as('member', 'acme')
  folder = fileURLToPath(String(testEnvironment(it.database.urls).FILE_STORE))
})

const makeDocument = async (person = acme, body: object = {}): Promise<string> => {
  const made = await person.post('/documents', { title: 'with a file', ...body })
  expect(made.statusCode, made.body).toBe(201)
  return made.json().id
}

const put = (id: string, content: Buffer | string, headers = {}, { person = acme, query = '' } = {}) =>
  person.put(`/documents/${id}/file${query}`, content, { 'content-type': 'application/octet-stream', ...headers })

/** Bytes as they are, which the harness would read as text. */
const download = (id: string, headers = {}, person = acme): Promise<Answer & { bytes: Buffer }> =>
  new Promise((resolve, reject) => {
    const url = `${it.origin}/api/v1/documents/${id}/file`
    http
      .get(url, { headers: { authorization: `Bearer ${person.accessToken}`, ...headers } }, (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => {
          const bytes = Buffer.concat(chunks)
          const body = bytes.toString()
          resolve({
            statusCode: response.statusCode ?? 0,
            headers: response.headers,
            body,
            bytes,
            json: () => JSON.parse(body),
          })
        })
      })
      .on('error', reject)
  })

const sha256 = (content: Buffer | string, encoding: 'hex' | 'base64' = 'hex') =>
  createHash('sha256').update(content).digest(encoding)

const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==',
  'base64',
)

const rowsOf = async (documentId: string) => {
  const { rows } = await it.superuser.query('select * from app.files where document_id = $1', [documentId])
  return rows
}

/** What is in the store for a tenant, and what rows say that should be: every row that is a document's has its object. */
const objects = async (tenantId: string): Promise<string[]> => {
  const found = await readdir(join(folder, tenantId)).catch(() => [])
  return found.sort()
}

describe('uploading', () => {
  test('201, then 200: what it is, how large, and its checksum', async () => {
    const id = await makeDocument()
    const first = await put(id, PNG, {}, { query: '?name=dot.png' })

    expect(first.statusCode, first.body).toBe(201)
    expect(first.json()).toEqual({
      ...{ name: 'dot.png', content_type: 'image/png', size: PNG.length, sha256: sha256(PNG) },
      uploaded_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/),
    })
    expect(first.headers.etag).toMatch(/^"[0-9a-f]{64}"$/)
    expect(first.headers.location).toBe(`/api/v1/documents/${id}/file`)

    const second = await put(id, 'other')
    expect(second.statusCode, second.body).toBe(200)
    expect(second.json()).toMatchObject({ name: null, content_type: 'text/plain', size: 5, sha256: sha256('other') })
    expect((await download(id)).body).toBe('other')
  })

  test('the document says so, has changed, and stays what it was besides', async () => {
    const id = await makeDocument(acme, { content: 'as it was' })
    const before = await acme.get(`/documents/${id}`)
    expect(before.json().file).toBeNull()
    const { body } = await put(id, PNG)
    const after = await acme.get(`/documents/${id}`)

    expect(after.json()).toEqual({
      ...before.json(),
      ...{ file: JSON.parse(body), version: 2, updated_at: after.json().updated_at },
    })
    expect(after.headers.etag).not.toBe(before.headers.etag)
    const { data } = (await acme.get('/documents?limit=1')).json()
    expect(data[0]).toMatchObject({ id, file: JSON.parse(body) })
  })

  test('its bytes are in the folder of its tenant, for nobody else to read, under a name that nobody can guess', async () => {
    const id = await makeDocument()
    await put(id, PNG)
    const [row] = await rowsOf(id)

    const path = join(folder, acme.tenantId, row.id)
    expect(row.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4/)
    expect((await readFile(path)).equals(PNG)).toBe(true)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect((await stat(join(folder, acme.tenantId))).mode & 0o777).toBe(0o700)
    expect(await objects(acme.tenantId)).not.toContainEqual(expect.stringContaining('.part'))
  })

  test('an empty one is one', async () => {
    const id = await makeDocument()
    for (const headers of [{}, { 'content-length': '0' }]) {
      const made = await put(id, '', headers)
      expect(made.json()).toMatchObject({ size: 0, sha256: sha256(''), content_type: 'application/octet-stream' })
    }
    const none = await acme.request('PUT', `/documents/${id}/file`)
    expect(none.json()).toMatchObject({ size: 0 })

    const found = await download(id)
    expect([found.statusCode, found.headers['content-length'], found.body]).toEqual([200, '0', ''])
    expect((await download(id, { range: 'bytes=0-' })).statusCode).toBe(416)
  })

  test('in chunks, of any content type and of none', async () => {
    const id = await makeDocument()
    const content = randomBytes(200_000)
    for (const type of [undefined, 'application/json', 'multipart/form-data; boundary=x', 'text/html']) {
      const answer = await send(`/documents/${id}/file`, { ...(type && { 'content-type': type }) }, content)
      expect(answer.statusCode, answer.body).toBeLessThan(300)
      expect((await download(id)).bytes.equals(content)).toBe(true)
    }
  })

  test.each([
    ['a signature, whatever is said', PNG, 'text/plain', 'image/png'],
    ['a PDF', '%PDF-1.7\n%âãÏÓ\n', 'application/x-nothing', 'application/pdf'],
    ['a program', Buffer.from('7f454c4602010100', 'hex'), 'image/png', 'application/x-elf'],
    ['a text that is said to be another', 'a,b\r\n', 'text/csv; header=present', 'text/csv'],
    ['a text that is said to be bytes', 'a,b\r\n', 'application/octet-stream', 'text/plain'],
    ['a text that is said to be an image', '<svg onload=alert(1)>', 'image/png', 'text/plain'],
    ['an image that is a text', '<svg onload=alert(1)>', 'image/svg+xml', 'image/svg+xml'],
    ['XML', '<?xml version="1.0"?><a/>', 'application/atom+xml', 'application/atom+xml'],
    ['a page', '<!doctype html><script>alert(1)</script>', 'text/html', 'text/html'],
    [
      'bytes that are said to be a text',
      Buffer.from([0x00, 0x01, 0x02, 0xff]),
      'text/plain',
      'application/octet-stream',
    ],
    ['a type that is none', 'text', 'nonsense/'.repeat(40), 'text/plain'],
    ['a text whose last character is cut by what is looked at', 'ä'.repeat(40_000), 'text/markdown', 'text/markdown'],
    ['half a character', Buffer.from('a\xc3', 'latin1'), 'text/plain', 'application/octet-stream'],
  ])('what it is: %s', async (_what, content, declared, expected) => {
    const id = await makeDocument()
    const headers = declared.startsWith('nonsense')
      ? { 'content-type': 'application/x-nonsense' }
      : { 'content-type': declared }
    const made = await put(id, content, headers)

    expect(made.statusCode, made.body).toBe(201)
    expect(made.json().content_type).toBe(expected)
    const found = await download(id)
    expect(found.bytes.equals(Buffer.from(content))).toBe(true)
    expect(found.headers['content-type']).not.toMatch(/html|xml|script|elf/)
  })

  test('a checksum that fits is accepted, in each form', async () => {
    const id = await makeDocument()
    const sum = sha256(PNG, 'base64')
    const long = createHash('sha512').update(PNG).digest('base64')
    for (const headers of [
      { 'content-digest': `sha-256=:${sum}:` },
      { 'repr-digest': `sha-512=:${long}:` },
      { 'content-digest': `md5=:AAAA:, sha-512=:${long}:`, 'repr-digest': `sha-256=:${sum}:,sha-512=:${long}:` },
    ]) {
      const made = await put(id, PNG, headers)
      expect(made.statusCode, made.body).toBeLessThan(300)
    }
  })

  test('422: one that does not fit, and nothing has changed', async () => {
    const id = await makeDocument()
    await put(id, 'before')
    const before = [await objects(acme.tenantId), (await acme.get(`/documents/${id}`)).json()]
    const wrong = sha256('another', 'base64')
    for (const headers of [
      { 'content-digest': `sha-256=:${wrong}:` },
      { 'repr-digest': `sha-256=:${wrong}:` },
      { 'content-digest': `sha-256=:${sha256(PNG, 'base64')}:`, 'repr-digest': `sha-256=:${wrong}:` },
      { 'repr-digest': `sha-512=:${createHash('sha512').update('x').digest('base64')}:` },
    ]) {
      const refused = await put(id, PNG, headers)
      expect([refused.statusCode, refused.json().code], refused.body).toEqual([422, 'digest_mismatch'])
    }
    expect([await objects(acme.tenantId), (await acme.get(`/documents/${id}`)).json()]).toEqual(before)
    expect((await download(id)).body).toBe('before')
  })

  test.each([
    ['a checksum that is none', { 'content-digest': 'sha-256=abc' }, '/headers/content-digest'],
    ['a checksum of another length', { 'repr-digest': 'sha-256=:AAAA:' }, '/headers/repr-digest'],
    [
      'a checksum that we cannot compute',
      { 'content-digest': 'md5=:1B2M2Y8AsgTpgAmY7PhCfg==:' },
      '/headers/content-digest',
    ],
    ['a part of it', { 'content-range': 'bytes 0-9/100' }, '/headers/content-range'],
    ['an If-Match that is none', { 'if-match': '1' }, '/headers/if-match'],
  ])('400: %s', async (_what, headers, path) => {
    const refused = await put(await makeDocument(), PNG, headers)

    expect(refused.statusCode, refused.body).toBe(400)
    expect(refused.json().errors[0].path).toBe(path)
  })

  test.each(['a/b', 'a\\b', '..', '.', '', 'x'.repeat(256), 'a\tb', 'a\r\nb', 'exe.\u202Egnp', 'a\u0000'])(
    '400: a name that is none: %j',
    async (name) => {
      const refused = await put(await makeDocument(), PNG, {}, { query: `?name=${encodeURIComponent(name)}` })

      expect(refused.statusCode, refused.body).toBe(400)
    },
  )

  test.each([
    ['what is coded', { 'content-encoding': 'gzip' }, 'Send it uncompressed.'],
    ['a type that is none', { 'content-type': 'nonsense' }, /^Send a Content-Type that is a media type/],
  ])('415: %s, and nobody is told to send JSON', async (_what, headers, detail) => {
    const refused = await put(await makeDocument(), PNG, headers)

    expect([refused.statusCode, refused.json().code]).toEqual([415, 'unsupported_media_type'])
    expect(refused.json().detail).toMatch(detail)
    expect(refused.body).not.toContain('json')
  })

  test('413 at one byte beyond the limit, by its length and in chunks, and nothing is left', async () => {
    const id = await makeDocument()
    const before = await objects(acme.tenantId)
    expect((await put(id, Buffer.alloc(MAX))).statusCode).toBe(201)
    expect((await put(id, Buffer.alloc(MAX - 1))).statusCode).toBe(200)

    const long = await put(id, Buffer.alloc(MAX + 1))
    const chunked = await send(`/documents/${id}/file`, {}, Buffer.alloc(MAX + 1))
    for (const refused of [long, chunked]) {
      expect([refused.statusCode, refused.json().code]).toEqual([413, 'too_large'])
      expect(refused.json().detail).toContain(String(MAX))
    }
    expect(long.headers.connection, 'most of it was not read').toBe('close')
    expect((await acme.get(`/documents/${id}`)).json().file.size).toBe(MAX - 1)
    // the file that was replaced waits to be swept
    expect((await objects(acme.tenantId)).length).toBe(before.length + 2)
  })

  test('who asks first (Expect: 100-continue) is told to send it, or is refused before a byte of it', async () => {
    const id = await makeDocument()
    const expecting = { expect: '100-continue', 'content-length': String(PNG.length) }
    expect(await continued(`/documents/${id}/file`, expecting, PNG)).toEqual([true, 201])
    expect(await continued(`/documents/${randomUUID()}/file`, expecting, PNG)).toEqual([false, 404])
    expect(await continued(`/documents/${id}/file`, { ...expecting, 'content-length': '999999999' }, PNG)).toEqual([
      false,
      413,
    ])
    expect(await continued(`/documents/${id}/file`, { ...expecting, authorization: 'Bearer x' }, PNG)).toEqual([
      false,
      401,
    ])
  })

  test('If-Match and If-None-Match: only what its sender knows is replaced', async () => {
    const id = await makeDocument()
    expect((await put(id, 'a', { 'if-match': '*' })).statusCode, 'there is none').toBe(412)
    expect((await put(id, 'a', { 'if-none-match': '*' })).statusCode).toBe(201)
    expect((await put(id, 'b', { 'if-none-match': '*' })).statusCode).toBe(412)
    for (const name of ['if-match', 'if-none-match']) {
      const refused = await put(id, 'b', { [name]: 'garbage' })
      expect(refused.json()).toMatchObject({ status: 400, errors: [{ path: `/headers/${name}` }] })
    }
    const { etag } = (await download(id)).headers
    for (const tag of [`"${sha256('a')}"`, `W/${etag}`, '""']) {
      const refused = await put(id, 'b', { 'if-match': tag })
      expect([refused.statusCode, refused.headers.etag]).toEqual([412, etag])
    }
    expect((await download(id)).body).toBe('a')
    expect((await put(id, 'b', { 'if-match': `"x", ${etag}` })).statusCode).toBe(200)
    expect((await put(id, 'c', { 'if-match': String(etag) })).statusCode).toBe(412)
    expect((await put(id, 'c', { 'if-match': '*' })).statusCode).toBe(200)
  })

  test('of two at once that know the same file, one replaces it', async () => {
    const id = await makeDocument()
    const { etag } = (await put(id, 'first')).headers
    const answers = await Promise.all(['a', 'b', 'c', 'd'].map((text) => put(id, text, { 'if-match': String(etag) })))

    expect(answers.map(({ statusCode }) => statusCode).sort()).toEqual([200, 412, 412, 412])
    const winner = answers.find(({ statusCode }) => statusCode === 200)
    expect((await download(id)).headers.etag).toBe(winner?.headers.etag)
  })
})

describe('downloading', () => {
  const content = randomBytes(100_000)
  let id: string
  let etag: string

  beforeAll(async () => {
    id = await makeDocument()
    etag = String(
      (await put(id, content, {}, { query: `?name=${encodeURIComponent('Flüge "2026" %.bin')}` })).headers.etag,
    )
  })

  test('200: the bytes as they came, and nothing that a browser would run', async () => {
    const { statusCode, headers, bytes } = await download(id)

    expect(statusCode).toBe(200)
    expect(bytes.equals(content)).toBe(true)
    expect(headers).toMatchObject({
      etag,
      'content-length': '100000',
      'content-type': 'application/octet-stream',
      'accept-ranges': 'bytes',
      'cache-control': 'private, no-cache',
      'x-content-type-options': 'nosniff',
      'content-security-policy': "default-src 'none'; frame-ancestors 'none'; sandbox",
      'repr-digest': `sha-256=:${sha256(content, 'base64')}:`,
      'content-disposition': `attachment; filename="Fl_ge _2026_ _.bin"; filename*=UTF-8''Fl%C3%BCge%20%222026%22%20%25.bin`,
    })
  })

  test('HEAD says the same without a byte', async () => {
    const [whole, head] = [await download(id), await acme.head(`/documents/${id}/file`)]
    const plain = ({ date, ratelimit, 'x-request-id': _id, connection, ...rest }: Answer['headers']) => rest

    expect([head.statusCode, head.body]).toEqual([200, ''])
    expect(plain(head.headers)).toEqual(plain(whole.headers))
    expect((await acme.head(`/documents/${id}/file`, { range: 'bytes=0-1' })).headers['content-length']).toBe('100000')
  })

  test.each([
    ['bytes=0-0', 0, 0],
    ['bytes=0-', 0, 99_999],
    ['bytes=10-19', 10, 19],
    ['bytes=99999-', 99_999, 99_999],
    ['bytes=99000-999999999', 99_000, 99_999],
    ['bytes=-1', 99_999, 99_999],
    ['bytes=-999999', 0, 99_999],
    [`bytes=99000-1${'0'.repeat(25)}`, 99_000, 99_999],
    [`bytes=-${'9'.repeat(19)}`, 0, 99_999],
    [`bytes=${'0'.repeat(25)}5-6`, 5, 6],
    ['BYTES=5-6', 5, 6],
  ])('206: %s', async (range, start, end) => {
    const { statusCode, headers, bytes } = await download(id, { range })

    expect(statusCode).toBe(206)
    expect(headers['content-range']).toBe(`bytes ${start}-${end}/100000`)
    expect(headers['content-length']).toBe(String(end - start + 1))
    expect(bytes.equals(content.subarray(start, end + 1))).toBe(true)
  })

  test.each([
    'bytes=100000-',
    'bytes=100000-100001',
    'bytes=-0',
    'bytes=999999999999999999-',
    'bytes=9999999999999999999-',
    `bytes=1${'0'.repeat(25)}-`,
    `bytes=1${'0'.repeat(25)}-1${'0'.repeat(25)}`,
  ])('416: %s', async (range) => {
    const refused = await download(id, { range })

    expect([refused.statusCode, refused.json().code]).toEqual([416, 'range_not_satisfiable'])
    expect(refused.headers['content-range']).toBe('bytes */100000')
  })

  test.each([
    'bytes=5-4',
    'bytes=',
    'bytes=-',
    'bytes=a-b',
    'items=0-1',
    'bytes=0-1,5-6',
    'bytes=0x1-2',
    `bytes=1${'0'.repeat(30)}1-1${'0'.repeat(30)}0`,
    'x'.repeat(2000),
  ])('200: a range that is not read is passed over: %s', async (range) => {
    const { statusCode, bytes } = await download(id, { range })

    expect([statusCode, bytes.length]).toEqual([200, 100_000])
  })

  test('If-Range: the part of what is known, else the whole', async () => {
    const range = 'bytes=0-9'
    for (const known of [etag, ` ${etag} `])
      expect((await download(id, { range, 'if-range': known })).statusCode).toBe(206)
    for (const other of ['"x"', `W/${etag}`, 'Sun, 22 Nov 2026 00:00:00 GMT']) {
      expect((await download(id, { range, 'if-range': other })).statusCode).toBe(200)
    }
  })

  test('304 and 412: what is known is not sent again', async () => {
    for (const known of [etag, `W/${etag}`, '*', `"x", ${etag}`]) {
      const answer = await download(id, { 'if-none-match': known, range: 'bytes=0-1' })
      expect([answer.statusCode, answer.body, answer.headers.etag]).toEqual([304, '', etag])
    }
    expect((await acme.head(`/documents/${id}/file`, { 'if-none-match': etag })).statusCode).toBe(304)
    expect((await download(id, { 'if-none-match': '"x"' })).statusCode).toBe(200)
    expect((await download(id, { 'if-match': etag })).statusCode).toBe(200)
    expect((await download(id, { 'if-match': '"x"' })).statusCode).toBe(412)
  })

  test('the ETag is of the bytes, the name and the type: what is answered besides is never an older one’s', async () => {
    const id = await makeDocument()
    const uploads = [
      ['?name=a.txt', 'text/plain'],
      ['?name=b.txt', 'text/plain'],
      ['?name=b.txt', 'text/csv'],
      ['?name=b.txt', 'text/html'],
      ['?name=b.txt', 'application/json'],
      ['', 'text/plain'],
      ['?name=file', 'text/plain'],
    ] as const
    const tags: string[] = []
    for (const [query, type] of uploads) {
      const known = tags.at(-1) ?? '"x"'
      const tag = String((await put(id, '[1]', { 'content-type': type }, { query })).headers.etag)
      expect((await download(id, { 'if-none-match': known })).headers.etag).toBe(tag)
      expect((await download(id, { 'if-none-match': known })).statusCode).toBe(200)
      expect((await download(id, { 'if-range': known, range: 'bytes=0-0' })).statusCode).toBe(200)
      expect((await download(id, { 'if-match': known })).statusCode).toBe(412)
      expect((await put(id, '[1]', { 'if-match': known })).headers.etag).toBe(tag)
      expect((await download(id, { 'if-none-match': tag })).statusCode).toBe(304)
      expect((await download(id, { 'if-range': tag, range: 'bytes=0-0' })).statusCode).toBe(206)
      tags.push(tag)
    }
    expect(new Set(tags).size).toBe(uploads.length)
    const again = await put(
      id,
      '[1]',
      { 'content-type': 'text/plain', 'if-match': String(tags.at(-1)) },
      { query: '?name=file' },
    )
    expect([again.statusCode, again.headers.etag]).toEqual([200, tags.at(-1)])
  })

  test('of any type that is asked for', async () => {
    expect((await download(id, { accept: 'image/png' })).statusCode).toBe(200)
  })
})

describe('the wall', () => {
  test('404: alike for another tenant’s document and for none, whatever is asked, and nothing is written', async () => {
    const theirs = await makeDocument()
    await put(theirs, PNG)
    const before = [
      await objects(globex.tenantId),
      await objects(acme.tenantId),
      (await acme.get(`/documents/${theirs}`)).json(),
    ]
    const conditions = [
      {},
      { 'if-match': '*' },
      { 'if-match': `"${sha256(PNG)}"` },
      { 'if-none-match': '*' },
      { range: 'bytes=0-' },
    ]
    const plain = ({ statusCode, headers, body }: Answer) => {
      const { 'x-request-id': id, date, ratelimit, ...rest } = headers
      return { statusCode, headers: rest, body: body.replaceAll(String(id), '') }
    }
    for (const headers of conditions) {
      const asks: ((id: string) => Promise<Answer>)[] = [
        (id) => globex.get(`/documents/${id}/file`, headers),
        (id) => globex.head(`/documents/${id}/file`, headers),
        (id) => put(id, 'mine', headers, { person: globex }),
      ]
      for (const ask of asks) {
        const [foreign, absent] = [await ask(theirs), await ask(randomUUID())]
        expect(foreign.statusCode).toBe(404)
        expect(plain(foreign)).toEqual(plain(absent))
      }
    }
    expect([
      await objects(globex.tenantId),
      await objects(acme.tenantId),
      (await acme.get(`/documents/${theirs}`)).json(),
    ]).toEqual(before)
    const { rows } = await it.superuser.query('select from app.files where tenant_id = $1', [globex.tenantId])
    expect(rows).toEqual([])
  })

  test('404: a document without a file', async () => {
    const id = await makeDocument()
    for (const headers of [{}, { 'if-none-match': '*' }, { 'if-match': '*' }]) {
      expect((await download(id, headers)).statusCode).toBe(404)
    }
  })

  test('403: without the permission, and a key has what it was given', async () => {
    const id = await makeDocument()
    await put(id, PNG)
    const made = await acme.post('/api-keys', { name: `reader ${randomUUID()}`, permissions: ['documents:read'] })
    const key = it.client({ authorization: `Bearer ${made.json().secret}` })

    expect((await key.get(`/documents/${id}/file`)).statusCode).toBe(200)
    expect((await key.put(`/documents/${id}/file`, 'x')).statusCode).toBe(403)
    expect((await put(id, 'x', {}, { person: member })).statusCode).toBe(200)
    expect((await it.anybody.get(`/documents/${id}/file`)).statusCode).toBe(401)
    expect((await it.anybody.put(`/documents/${id}/file`, 'x')).statusCode).toBe(401)
  })

  test('what happened stands in the audit log', async () => {
    const id = await makeDocument()
    const { headers } = await put(id, PNG)
    const { rows } = await it.superuser.query(
      `select action, table_name, actor_id, new_row ->> 'document_id' as document_id, new_row ->> 'sha256' as sha256
         from app.audit_log where request_id = $1 order by id`,
      [headers['x-request-id']],
    )
    expect(rows).toEqual([
      { action: 'insert', table_name: 'files', actor_id: acme.userId, document_id: null, sha256: null },
      { action: 'update', table_name: 'documents', actor_id: acme.userId, document_id: null, sha256: null },
      { action: 'update', table_name: 'files', actor_id: acme.userId, document_id: id, sha256: `\\x${sha256(PNG)}` },
    ])
  })
})

describe('what goes', () => {
  test('deleting the document, also with its project, leaves the file to nobody', async () => {
    const project_id = await makeProject(acme)
    const [alone, within] = [await makeDocument(), await makeDocument(acme, { project_id })]
    for (const id of [alone, within]) await put(id, PNG)
    const ids = (await Promise.all([alone, within].map(rowsOf))).flat().map(({ id }) => id)

    expect((await acme.delete(`/documents/${alone}`)).statusCode).toBe(204)
    expect((await acme.delete(`/projects/${project_id}?cascade=true`)).statusCode).toBe(204)

    const { rows } = await it.superuser.query(
      'select document_id, lease_until <= now() as due from app.files where id = any ($1)',
      [ids],
    )
    expect(rows).toEqual(Array(2).fill({ document_id: null, due: true }))
    for (const id of [alone, within]) expect((await download(id)).statusCode).toBe(404)
  })

  test('a client that goes away leaves nothing in the store', async () => {
    const id = await makeDocument()
    await put(id, 'before')
    const before = await objects(acme.tenantId)
    for (const headers of ['content-length: 200000', 'transfer-encoding: chunked']) {
      const socket = connect(Number(new URL(it.origin).port), '127.0.0.1')
      socket.on('error', () => {})
      socket.write(
        `PUT /api/v1/documents/${id}/file HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ${acme.accessToken}\r\n${headers}\r\n\r\n`,
      )
      socket.write(headers.startsWith('content') ? 'x'.repeat(90_000) : `15f90\r\n${'x'.repeat(90_000)}`)
      await expect.poll(() => objects(acme.tenantId)).toContainEqual(expect.stringMatching(/\.part$/))
      socket.destroy()
      await expect.poll(() => objects(acme.tenantId)).toEqual(before)
    }
    expect((await download(id)).body).toBe('before')
  })

  test('a document that is deleted while its file arrives: 404, and nothing is left', async () => {
    const id = await makeDocument()
    const before = await objects(acme.tenantId)
    const upload = slowly(`/documents/${id}/file`)
    await expect.poll(() => objects(acme.tenantId)).not.toEqual(before)
    expect((await acme.delete(`/documents/${id}`)).statusCode).toBe(204)
    upload.end('rest')

    expect((await upload.answer).statusCode).toBe(404)
    expect(await objects(acme.tenantId)).toEqual(before)
  })

  test('an upload that was found to be nobody’s cannot be finished any more', async () => {
    const id = await makeDocument()
    const before = await objects(acme.tenantId)
    const upload = slowly(`/documents/${id}/file`)
    await expect.poll(() => objects(acme.tenantId)).not.toEqual(before)
    await asSystem(
      it.superuser,
      acme.tenantId,
      'update app.files set doomed_at = now() where tenant_id = $1 and document_id is null and doomed_at is null',
      [acme.tenantId],
    )
    upload.end('rest')

    expect((await upload.answer).statusCode).toBe(408)
    expect(await objects(acme.tenantId)).toEqual(before)
  })
})

/** In chunks. */
const send = (path: string, headers: http.OutgoingHttpHeaders, content: Buffer): Promise<Answer> => {
  const upload = slowly(path, headers, '')
  for (let at = 0; at < content.length; at += 65_536) upload.request.write(content.subarray(at, at + 65_536))
  upload.request.end()
  return upload.answer
}

const slowly = (path: string, headers: http.OutgoingHttpHeaders = {}, begin = 'begun', person = acme) => {
  const request = http.request(`${it.origin}/api/v1${path}`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${person.accessToken}`, 'transfer-encoding': 'chunked', ...headers },
  })
  if (begin === '') request.flushHeaders()
  else request.write(begin)
  const answer = new Promise<Answer>((resolve, reject) => {
    request.on('error', reject)
    request.on('response', (response) => {
      let body = ''
      response.on('data', (chunk) => (body += chunk))
      response.on('error', reject)
      response.on('end', () =>
        resolve({
          statusCode: response.statusCode ?? 0,
          headers: response.headers,
          body,
          json: () => JSON.parse(body),
        }),
      )
    })
  })
  answer.catch(() => {})
  return { request, answer, end: (rest: string) => void request.end(rest) }
}

const continued = (path: string, headers: http.OutgoingHttpHeaders, content: Buffer): Promise<[boolean, number]> =>
  new Promise((resolve, reject) => {
    const request = http.request(`${it.origin}/api/v1${path}`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${acme.accessToken}`, ...headers },
    })
    let told = false
    request.on('continue', () => {
      told = true
      request.end(content)
    })
    request.on('error', reject)
    request.on('response', (response) => {
      response.resume()
      resolve([told, response.statusCode ?? 0])
      if (!told) request.destroy()
    })
    request.flushHeaders()
  })
