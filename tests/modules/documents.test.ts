import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Person, world } from '../harness.ts'
import { makeProject } from '../projects.ts'
import { walled } from '../walled.ts'

const it = world()
let acme: Person
let globex: Person
let member: Person
let project: string
let theirProject: string

beforeAll(async () => {
  acme = await it.as('owner', 'acme')
  globex = await it.as('owner', 'globex')
  member = await it.as('member', 'acme')
  project = await makeProject(acme)
  theirProject = await makeProject(globex)
})

walled(it, '/documents', { title: 'walled', content: 'within' }, { title: 'changed' })

const make = async (body: object = {}, person = acme) => {
  const made = await person.post('/documents', { title: 'made', ...body })
  expect(made.statusCode, made.body).toBe(201)
  return made.json()
}

describe('creating', () => {
  test('201: the row with its defaults, its ETag and its location', async () => {
    const made = await acme.post('/documents', { title: 'Flight plan' })

    expect(made.statusCode, made.body).toBe(201)
    expect(made.json()).toEqual({
      ...{ id: expect.stringMatching(/^[0-9a-f-]{14}7/), project_id: null, title: 'Flight plan', content: '' },
      ...{ content_type: 'text/plain', file: null, version: 1 },
      ...{ created_at: expect.any(String), updated_at: made.json().created_at },
    })
    expect(made.headers.etag).toBe('"1"')
    expect(made.headers.location).toBe(`/api/v1/documents/${made.json().id}`)
    expect((await acme.get(`/documents/${made.json().id}`)).json()).toEqual(made.json())
  })

  test('201: as much as may be in one, in any script', async () => {
    const words = Array.from({ length: 22_000 }, (_, n) => `𐌰${n.toString(36)}${n % 7}`).join(' ')
    const content = words.slice(0, 190_000)
    const { id } = await make({ project_id: project, content, content_type: 'text/markdown' })

    expect((await acme.get(`/documents/${id}`)).json()).toMatchObject({ content, content_type: 'text/markdown' })
    expect((await make({ content: '字'.repeat(200_000) })).version).toBe(1)
    expect((await make({ content: `short ${'x'.repeat(2_040)} words` })).version).toBe(1)
  })

  test('422: more different words than can be kept apart', async () => {
    const wordOf = (n: number) => String.fromCodePoint(0x20000 + (n >> 8), 0x20000 + (n & 255))
    const content = Array.from({ length: 66_000 }, (_, n) => wordOf(n)).join(' ')
    const refused = await acme.post('/documents', { title: 'a dictionary', content })

    expect(refused.statusCode).toBe(422)
    expect(refused.json()).toMatchObject({ code: 'unprocessable', errors: [{ path: '/content' }] })
  })

  test.each([
    ['no title', {}, '/title'],
    ['an empty title', { title: '' }, '/title'],
    ['a long title', { title: 'x'.repeat(201) }, '/title'],
    ['a long content', { title: 'x', content: 'x'.repeat(200_001) }, '/content'],
    ['a media type that is none', { title: 'x', content_type: 'markdown' }, '/content_type'],
    ['a media type in capitals', { title: 'x', content_type: 'Text/Plain' }, '/content_type'],
    ['words', { title: 'x', words: "'x':1" }, '/words'],
  ])('400: %s', async (_what, body, path) => {
    const refused = await acme.post('/documents', body)

    expect(refused.statusCode, refused.body).toBe(400)
    expect(refused.json().errors[0].path).toBe(path)
  })

  test('422: another tenant’s project and one that nobody has are refused alike', async () => {
    const { id } = await make()
    for (const ask of [
      (project_id: string) => acme.post('/documents', { project_id, title: 'x' }),
      (project_id: string) => acme.patch(`/documents/${id}`, { project_id }),
    ]) {
      const [foreign, absent] = [await ask(theirProject), await ask(randomUUID())]
      expect(foreign.json()).toMatchObject({
        ...{ status: 422, code: 'reference_not_found', errors: [{ path: '/project_id' }] },
      })
      expect({ ...foreign.json(), request_id: '' }).toEqual({ ...absent.json(), request_id: '' })
    }
  })
})

describe('changing', () => {
  test('200: PUT replaces, PATCH merges, null goes back to the default', async () => {
    const { id } = await make({ project_id: project, content: 'old', content_type: 'text/html' })

    const patched = await acme.patch(`/documents/${id}`, { content: 'new' })
    const replaced = await acme.put(`/documents/${id}`, { title: 'other' })
    const again = await acme.patch(`/documents/${id}`, { content: 'x', content_type: 'text/csv' })
    const reset = await acme.patch(`/documents/${id}`, { content: null, content_type: null })

    expect(patched.json()).toMatchObject({ project_id: project, content: 'new', content_type: 'text/html', version: 2 })
    expect(replaced.json()).toMatchObject({ title: 'other', project_id: null, content: '', content_type: 'text/plain' })
    expect(again.json()).toMatchObject({ content: 'x', content_type: 'text/csv' })
    expect(reset.json()).toMatchObject({ content: '', content_type: 'text/plain', version: 5 })
    expect((await acme.patch(`/documents/${id}`, { title: 'x' }, { 'if-match': '"1"' })).statusCode).toBe(412)
  })

  test('403: a member writes and does not delete', async () => {
    const { id } = await make({}, member)
    expect((await member.delete(`/documents/${id}`)).statusCode).toBe(403)
    expect((await acme.delete(`/documents/${id}`)).statusCode).toBe(204)
  })

  test('the audit log keeps what was written, and not the words made of it', async () => {
    const { id } = await make({ content: 'for the record' })
    const [entry] = (await acme.get(`/audit/logs?row_id=${id}`)).json().data
    expect(entry.new_row).toMatchObject({ content: 'for the record', words: '[redacted]' })
  })

  test('a project with documents is deleted together with them, or not at all', async () => {
    const doomed = await makeProject(acme)
    const { id } = await make({ project_id: doomed })

    expect((await acme.delete(`/projects/${doomed}`)).json()).toMatchObject({ status: 409, code: 'project_not_empty' })
    expect((await acme.get(`/documents/${id}`)).statusCode).toBe(200)
    expect((await acme.delete(`/projects/${doomed}?cascade=true`)).statusCode).toBe(204)
    expect((await acme.get(`/documents/${id}`)).statusCode).toBe(404)
  })
})

describe('listing', () => {
  test('200: without content, by project under either name, sorted', async () => {
    const own = await makeProject(acme)
    const [b, a] = [await make({ project_id: own, title: 'b' }), await make({ project_id: own, title: 'a' })]
    const titles = async (query: string) =>
      (await acme.get(`/documents?${query}`)).json().data.map(({ title }: { title: string }) => title)

    const { content: _, ...summary } = a
    expect((await acme.get(`/documents?project_id=${own}&limit=1`)).json().data).toEqual([summary])
    expect(await titles(`project=${own}`)).toEqual(['a', 'b'])
    expect(await titles(`project=${own}&project_id=${own}&sort=-title`)).toEqual(['b', 'a'])
    expect(await titles(`project=${own}&created_at_lt=${a.created_at}`)).toEqual([b.title])
    expect(await titles(`project_id=${theirProject}`)).toEqual([])
  })

  test('200: a project under both names, in whichever case its id is', async () => {
    expect((await acme.get(`/documents?project=${project}&project_id=${project.toUpperCase()}`)).statusCode).toBe(200)
  })

  test('400: a project under two names', async () => {
    const refused = await acme.get(`/documents?project=${project}&project_id=${randomUUID()}`)
    expect(refused.json()).toMatchObject({ status: 400, code: 'invalid', errors: [{ path: '/project' }] })
  })
})

describe('searching', () => {
  const found = async (q: string, person = acme, more = ''): Promise<string[]> => {
    const answer = await person.get(`/documents?q=${encodeURIComponent(q)}${more}`)
    expect(answer.statusCode, answer.body).toBe(200)
    return answer.json().data.map(({ title }: { title: string }) => title)
  }
  let place: string

  beforeAll(async () => {
    place = await makeProject(acme)
    await make({ title: 'kestrel', content: 'a bird of prey' })
    await make({ title: 'birds', content: 'the kestrel hovers, and the heron waits', project_id: place })
    await make({ title: 'fish', content: 'the heron waits for it' })
    await make({ title: 'Ünïcode', content: `Žluťoučký kůň, 北京 and l’été; it's the o'clock` })
    await make({ title: 'kestrel of theirs', content: 'kestrel kestrel heron sparrowhawk' }, globex)
  })

  test('200: what has the words, whichever case; the title weighs more', async () => {
    expect(await found('kestrel')).toEqual(['kestrel', 'birds'])
    expect(await found('HERON waits')).toEqual(expect.arrayContaining(['birds', 'fish']))
    expect(await found('heron kestrel')).toEqual(['birds'])
    expect(await found('žluťoučký')).toEqual(['Ünïcode'])
    expect(await found('北京')).toEqual(['Ünïcode'])
    expect(await found('nothing')).toEqual([])
  })

  test('200: phrases, alternatives and what is not to be there', async () => {
    expect(await found('"heron waits"')).toEqual(expect.arrayContaining(['birds', 'fish']))
    expect(await found('"waits heron"')).toEqual([])
    expect(await found('heron -kestrel')).toEqual(['fish'])
    expect(await found('prey or fish')).toEqual(expect.arrayContaining(['kestrel', 'fish']))
  })

  test('200: only what is not to be there finds nothing, and the document of the API says so', async () => {
    expect(await found('-kestrel')).toEqual([])
    expect(await found('-kestrel -heron')).toEqual([])
    const { paths } = (await it.anybody.get('//api/schema')).json()
    const asked = paths['/api/v1/documents'].get.parameters.find(({ name }: { name?: string }) => name === 'q')
    expect(asked.description).toContain('`-` before what is not to be there, which alone (`-moon`) finds nothing')
  })

  test.each([
    "'",
    '"',
    '\\',
    "it's",
    "o''clock",
    '& | !',
    '<->',
    ':*',
    '()',
    '*',
    ' ',
    '🚀',
    'a:b',
    '%',
    '-',
    'or',
    '-'.repeat(200),
    '- '.repeat(100),
    '-"'.repeat(100),
    '\u0001'.repeat(99),
    'x -',
    '-or -"',
  ])('200: %j is a question, too', async (q) => {
    await found(q)
  })

  test('200: what is neither a letter nor a digit parts words, in a document and in a question', async () => {
    const text =
      'TCP/IP over <b>copper</b>, see https://example.org/a-b.html?x=1_2 (well-known; ask jo@example.org, 10-20 or 3.14)'
    await make({ title: 'wires', content: text })
    const asked = [
      ...[
        'tcp',
        'IP',
        'copper',
        'example',
        'https://example.org/a-b.html?x=1_2',
        '<b>copper</b>',
        'jo@example.org',
        '3.14',
      ],
      ...[
        'TCP/IP',
        '"tcp/ip over"',
        'well-known',
        'known',
        '"well-known"',
        '20',
        '10-20',
        '"example.org/a-b" -fish',
        'tcp -"ip tcp"',
      ],
    ]
    for (const q of asked) expect(await found(q), q).toEqual(['wires'])
    for (const q of ['tcp -copper', 'tcp -"tcp/ip"', '"ip tcp"', 'copper-wire']) expect(await found(q), q).toEqual([])
  })

  test('200: within a project, and with other filters', async () => {
    expect(await found('kestrel', acme, `&project_id=${place}`)).toEqual(['birds'])
    expect(await found('kestrel', acme, `&project=${place}`)).toEqual(['birds'])
    expect(await found('kestrel', acme, `&project_id=${theirProject}`)).toEqual([])
    expect(await found('kestrel', acme, '&created_at_lt=2020-01-01T00:00:00Z')).toEqual([])
  })

  test('another tenant’s words are not found, nor counted, nor ranked by', async () => {
    expect(await found('sparrowhawk')).toEqual([])
    expect(await found('kestrel', globex)).toEqual(['kestrel of theirs'])
    expect((await acme.get('/documents?q=kestrel&count=exact')).json().total).toBe(2)
  })

  test('what is changed is found by its new words, and not by its old', async () => {
    const { id } = await make({ title: 'passing', content: 'quicksilver' })
    await acme.patch(`/documents/${id}`, { content: 'wolfram' })
    expect(await found('quicksilver')).toEqual([])
    expect(await found('wolfram')).toEqual(['passing'])
    await acme.delete(`/documents/${id}`)
    expect(await found('wolfram')).toEqual([])
  })

  test('200: page by page, each once, best first', async () => {
    const made = await Promise.all(
      Array.from({ length: 12 }, (_, n) => make({ title: `page ${n}`, content: 'paginated '.repeat((n % 4) + 1) })),
    )
    const seen: string[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const page: { data: { id: string }[]; next_cursor: string | null } = (
        await acme.get(`/documents?q=paginated&limit=5${cursor && `&cursor=${cursor}`}`)
      ).json()
      seen.push(...page.data.map(({ id }) => id))
      cursor = page.next_cursor
    }
    const whole = (await acme.get('/documents?q=paginated&limit=100')).json().data
    expect(seen).toEqual(whole.map(({ id }: { id: string }) => id))
    expect(new Set(seen)).toEqual(new Set(made.map(({ id }) => id)))

    const { next_cursor } = (await acme.get('/documents?q=paginated&limit=5')).json()
    for (const query of ['q=kestrel', 'limit=5', `q=paginated&project_id=${project}`]) {
      expect((await acme.get(`/documents?${query}&cursor=${next_cursor}`)).json().code, query).toBe('invalid_cursor')
    }
  })

  test.each(['q=', `q=${'x'.repeat(201)}`, 'q=a&q=b', 'q=%00', 'search=x'])('400: ?%s', async (query) => {
    expect((await acme.get(`/documents?${query}`)).statusCode).toBe(400)
  })
})

describe('the function that searches', () => {
  /** Works in a transaction that is rolled back, with `count` documents of acme: the n-th newest has what `word(n)` says. */
  const withMany = async (count: number, word: string, work: (client: pg.PoolClient) => Promise<void>) => {
    const client = await it.superuser.connect()
    try {
      await client.query('begin')
      await client.query(`select app.seal($1, 'system', null, 'system', null, 'test', null)`, [acme.tenantId])
      await client.query('alter table app.documents disable trigger audit_insert')
      await client.query(
        `insert into app.documents (title, content, created_at)
         select 'many ' || n, ${word}, now() - n * interval '1 second' from generate_series($1::int, 1, -1) n`,
        [count],
      )
      await client.query('analyze app.documents')
      await work(client)
    } finally {
      await client.query('rollback')
      client.release()
    }
  }

  test('asks the index for the words of this tenant, and for no others’', async () => {
    await withMany(5_000, `'word' || n % 500`, async (client) => {
      const { rows } = await client.query(`select prosrc from pg_proc where oid = 'app.search_documents'::regproc`)
      const { rows: newest } = await client.query(
        'select id from app.documents where tenant_id = $1 order by id desc offset 500 limit 1',
        [acme.tenantId],
      )
      const from = newest[0].id
      const statements = [
        ...rows[0].prosrc.matchAll(/array\(\s*(select d\.id[^;]+)\);|(select d\.id[^;]+?)(?:\) end)?;/g),
      ].flatMap(([, listed, alone]) =>
        (listed ? [2000, 20_000] : [2000]).map((depth) =>
          (listed ?? alone)
            .replaceAll('v_tenant', `'${acme.tenantId}'::uuid`)
            .replaceAll('v_query', `'${acme.tenantId.slice(-12)}word7'::tsquery`)
            .replaceAll('p_project_id', 'null::uuid')
            .replace(/p_(created|updated)_(from|until)/g, 'null::timestamptz')
            .replaceAll('v_depth', String(depth))
            .replaceAll('v_from', `'${from}'::uuid`)
            .replaceAll('v_most', '500')
            .replaceAll('v_found', `'{${from}}'::uuid[]`),
        ),
      )
      await client.query('set local role app_search')
      const plans: string[] = []
      for (const text of statements)
        plans.push((await client.query(`explain ${text}`)).rows.map((row) => row['QUERY PLAN']).join('\n'))
      const lexemes = await client.query(
        `select bool_and(lexeme like $1 || '%') as own from app.documents d, unnest(d.words) where d.tenant_id = $2`,
        [acme.tenantId.slice(-12), acme.tenantId],
      )

      // how far it goes, those one after the other, those with the word, and how well each matches
      const [far, walked, asked, ranked] = plans
      expect(plans).toHaveLength(4)
      for (const plan of [far, walked, ranked]) expect(plan).toMatch(/Index (Only )?Scan .*documents_pkey/)
      expect(walked).not.toContain('documents_words')
      expect(asked).toContain('Bitmap Index Scan on documents_words')
      expect(plans.join('\n')).not.toContain('Seq Scan')
      expect(lexemes.rows).toEqual([{ own: true }])
    })
  })

  test('finds the newest five hundred, however many documents have the words and wherever they are', async () => {
    const words = `concat_ws(' ', 'every', case when n % 2 = 0 then 'second' end, case when n % 10 = 0 then 'tenth' end,
      case when n % 30 = 0 then 'thirtieth' end, case when n % 3000 = 0 then 'rare' end,
      case when n > 13000 then 'old' end, case when n <= 400 then 'new' end, case when n <= 100 or n > 2300 then 'parted' end)`
    await withMany(15_000, words, async (client) => {
      const questions = [
        ...['every', 'second', 'tenth', 'thirtieth', 'rare', 'old', 'new', 'parted', 'nowhere'],
        ...['second tenth', 'second -tenth', 'new or rare', '"every second tenth"', '"tenth every"', 'thirtieth old'],
      ]
      const windows = [`'-infinity', 'infinity'`, `now() - interval '9000 s', now() - interval '8000 s'`]
      for (const [question, window] of questions.flatMap((one) => windows.map((each) => [one, each] as const))) {
        const { rows } = await client.query(
          `select array(select f.document_id from app.search_documents($1, null, ${window}, null, null) f order by 1 desc) as found,
                  array(select id from app.documents, (values (${window})) times (since, until) where tenant_id = $2
                           and words @@ app.words_of($2, websearch_to_tsquery('simple', app.searched($1))::text)::tsquery
                           and created_at >= since::timestamptz and created_at < until::timestamptz
                         order by id desc limit 500) as expected`,
          [question, acme.tenantId],
        )
        expect(rows[0].found, `${question} of ${window}`).toEqual(rows[0].expected)
      }
    })
  })

  test('answers nothing without a context, and runs as a role that may do nothing else', async () => {
    const { rows } = await it.superuser.query('select * from app.search_documents($1, null, null, null, null, null)', [
      'kestrel',
    ])
    const owner = await it.superuser.query(
      `select pg_get_userbyid(proowner) as owner, has_table_privilege('app_search', 'app.documents', 'insert') as inserts,
              has_column_privilege('app_search', 'app.documents', 'content', 'select') as reads
         from pg_proc where oid = 'app.search_documents'::regproc`,
    )
    expect(rows).toEqual([])
    expect(owner.rows).toEqual([{ owner: 'app_search', inserts: false, reads: false }])
  })
})
