import { expect, test } from 'vitest'
import { world } from '../harness.ts'
import { makeOperator, signInOperator } from '../operators/stage.ts'
import { ID, type Schema, sampleOf } from '../schema-samples.ts'

const it = world()

type Operation = { requestBody?: { content: Record<string, { schema: Schema }> }; security?: object[] }

test('400: every route refuses a query parameter that it does not know', async () => {
  const person = await it.as('owner', 'acme')
  await makeOperator(it, 'query@operators.test')
  const operator = await signInOperator(it, 'query@operators.test')
  const { paths } = (await it.anybody.get('//api/schema')).json() as {
    paths: Record<string, Record<string, Operation>>
  }
  const routes = Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, { requestBody, security }]) => ({
      ...{ method: method.toUpperCase(), path, requestBody },
      who: security?.some((way) => 'operator' in way) ? operator : person,
    })),
  )
  const undocumented = [
    '/api/docs',
    '/api/redoc',
    '/api/redoc/redoc.js',
    '/api/docs/static/index.html',
    '/api/schema',
  ].map((path) => ({ method: 'GET', path, requestBody: undefined, who: person }))
  expect(routes.length).toBeGreaterThan(20)

  const taken: string[] = []
  for (const { method, path, requestBody, who } of [...routes, ...undocumented]) {
    const schema = Object.values(requestBody?.content ?? {})[0]?.schema
    const answer = await who.request(
      method,
      `/${path.replace('{name}', 'reviewer').replace(/\{\w+\}/g, ID)}?unheard_of=1`,
      schema && sampleOf(schema),
    )
    if (answer.statusCode !== 400 || !answer.body.includes('/unheard_of')) {
      taken.push(`${method} ${path}: ${answer.statusCode} ${answer.body.slice(0, 300)}`)
    }
  }
  expect(taken).toEqual([])
})
