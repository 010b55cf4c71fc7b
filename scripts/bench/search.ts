/**
 * What a search takes in a tenant of very many documents, by how many of them have the words: p50 and p99 of one client. A
 * document has some eighty words; the n-th most common word stands in every document, in half of them, in a third, and so on.
 * The control is the same page of documents without a question.
 */
import pg from 'pg'
import { latencies } from './ask.ts'
import { measure, median } from './measure.ts'

type Subject = { origin: string; ownerUrl: string; token: string; tenantId: string; seconds: number; turns: number }

/** Words, and in which share of the documents each is. */
const questions: readonly (readonly [words: string, what: string])[] = [
  ['w1', 'in every document'],
  ['w2', 'in half of them'],
  ['w10', 'in a tenth'],
  ['w100', 'in a hundredth'],
  ['w1000', 'in a thousandth'],
  ['w10000', 'in one of ten thousand'],
  ['w2 w3', 'two that are common'],
  ['w10 w1000', 'one that is common, one that is rare'],
  ['w900 or w1000', 'either of two'],
  ['"w1 w10"', 'a phrase of two'],
  ['w2 -w3', 'one without another'],
  ['w2 w999999', 'one that is common, one that is nowhere'],
  ['w999999', 'nowhere'],
]

export async function fillDocuments(ownerUrl: string, tenantId: string, count: number): Promise<void> {
  const client = new pg.Client({ connectionString: ownerUrl })
  await client.connect()
  try {
    await client.query('alter table app.documents disable trigger user')
    await client.query('drop index app.documents_words')
    await client.query(`set maintenance_work_mem = '512MB'`)
    for (let from = 0; from < count; from += 50_000) {
      // word n is in a document with the probability 1/n, so that there are some ln 100,000 of those; the rest is unlike
      await client.query(
        `with texts as (
           select d, string_agg('w' || word, ' ' order by random()) as text
             from (select d, 1 as word from generate_series($2::int, $3::int) d
                   union all
                   select d, floor(1 / (1 - random()))::int from generate_series($2::int, $3::int) d, generate_series(1, 30)
                   union all
                   select d, 1000000 + floor(random() * 100000000)::int from generate_series($2::int, $3::int) d, generate_series(1, 50)) w
            group by d)
         insert into app.documents (tenant_id, title, content, words)
         select $1, 'document ' || d, text, app.words_of($1, to_tsvector('simple', text)::text)::tsvector from texts`,
        [tenantId, from + 1, Math.min(count, from + 50_000)],
      )
    }
    await client.query('create index documents_words on app.documents using gin (words) with (fastupdate = off)')
    await client.query('alter table app.documents enable trigger user')
    await client.query('vacuum analyze app.documents')
  } finally {
    await client.end()
  }
}

export async function benchSearch({ origin, ownerUrl, token, tenantId, seconds, turns }: Subject): Promise<void> {
  const owner = new pg.Client({ connectionString: ownerUrl })
  await owner.connect()
  const { rows } = await owner.query<{ n: number }>(
    'select count(*)::int as n from app.documents where tenant_id = $1',
    [tenantId],
  )
  console.log(
    `\nsearch in ${rows[0]?.n} documents of one tenant, by one client: p50 and p99, and of a list of 20 beside it`,
  )
  try {
    await measure(() => owner.query('select 1'), 1, 0.1)
    for (const [words, what] of questions) {
      const found = { p50: [] as number[], p99: [] as number[], list: [] as number[] }
      for (let turn = 0; turn < turns; turn++) {
        found.list.push((await latencies({ url: `${origin}/documents`, token }, seconds / 4)).p50)
        const { p50, p99 } = await latencies(
          { url: `${origin}/documents?q=${encodeURIComponent(words)}`, token },
          seconds,
        )
        found.p50.push(p50)
        found.p99.push(p99)
      }
      const [p50, p99, list] = [found.p50, found.p99, found.list].map((each) => median(each).toFixed(1))
      console.log(`${words.padEnd(14)} ${what.padEnd(40)} ${p50} and ${p99} ms, beside ${list}`)
    }
  } finally {
    await owner.end()
  }
}
