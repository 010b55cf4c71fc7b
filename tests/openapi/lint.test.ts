import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { lintDocument } from '../../scripts/openapi/lint.ts'

test('Redocly and Spectral find nothing in docs/openapi.json', async () => {
  const text = readFileSync(new URL('../../docs/openapi.json', import.meta.url), 'utf8')

  expect(await lintDocument(text)).toEqual([])
})

// Each rule that matters is shown a document that breaks it.

/** A small API with nothing to be said against. */
const sound = {
  openapi: '3.1.0',
  info: {
    title: 'Rockets',
    version: '1.0.0',
    description: 'Where they are.',
    contact: { name: 'Mission control' },
    license: { name: 'MIT', identifier: 'MIT' },
  },
  servers: [{ url: '/' }],
  tags: [{ name: 'rockets', description: 'Rockets.' }],
  security: [{ bearer: [] }],
  paths: {
    '/rockets/{id}': {
      put: {
        operationId: 'replaceRocket',
        summary: 'Replace a rocket',
        description: 'All of it.',
        tags: ['rockets'],
        parameters: [{ name: 'id', in: 'path', required: true, description: 'Which one.', schema: { type: 'string' } }],
        requestBody: {
          content: { 'application/json': { schema: { $ref: '#/components/schemas/Rocket' }, example: { stages: 3 } } },
        },
        responses: {
          200: {
            description: 'As it is now.',
            content: { 'application/json': { schema: { $ref: '#/components/schemas/Rocket' } } },
          },
          401: { description: 'Who are you?' },
        },
      },
    },
  },
  components: {
    securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } },
    schemas: { Rocket: { type: 'object', properties: { stages: { type: 'integer', examples: [3] } } } },
  },
}

type Rockets = typeof sound
type Loose = { [name: string]: Loose } & { [index: number]: Loose }
const put = ({ paths }: Rockets): Loose => paths['/rockets/{id}'].put as unknown as Loose

test('a sound document is let through', async () => {
  expect(await lintDocument(JSON.stringify(sound))).toEqual([])
})

test.each<[name: string, rules: string[], fault: (document: Rockets) => unknown]>([
  [
    'no operation id',
    ['redocly operation-operationId', 'spectral operation-operationId'],
    (it) => delete put(it).operationId,
  ],
  ['no summary', ['redocly operation-summary'], (it) => delete put(it).summary],
  ['no description', ['spectral operation-description'], (it) => delete put(it).description],
  ['a tag that is not described', ['spectral operation-tag-defined'], (it) => it.tags.pop()],
  ['no refusal', ['redocly operation-4xx-response'], (it) => delete put(it).responses?.['401']],
  ['no licence', ['redocly info-license'], (it) => delete (it.info as Partial<Rockets['info']>).license],
  ['no server', ['redocly no-empty-servers', 'spectral oas3-api-servers'], (it) => it.servers.pop()],
  ['nobody is to be known', ['redocly security-defined'], (it) => delete (it as Partial<Rockets>).security],
  [
    'a security scheme that is not there',
    ['spectral oas3-operation-security-defined'],
    (it) => it.security.push({ basic: [] } as never),
  ],
  [
    'an example of another shape',
    ['redocly no-invalid-media-type-examples', 'spectral oas3-valid-media-example'],
    (it) => Object.assign(put(it).requestBody?.content?.['application/json']?.example ?? {}, { stages: 'three' }),
  ],
  [
    'a reference to nothing',
    ['redocly no-unresolved-refs', 'spectral invalid-ref'],
    (it) => delete (it.components.schemas as Partial<Rockets['components']['schemas']>).Rocket,
  ],
  [
    'a part that nothing refers to',
    ['redocly no-unused-components', 'spectral oas3-unused-component'],
    (it) => Object.assign(it.components.schemas, { Moon: { type: 'object' } }),
  ],
  [
    'a parameter without words',
    ['spectral oas3-parameter-description'],
    (it) => delete put(it).parameters?.[0]?.description,
  ],
  [
    'a path parameter that is not there',
    ['redocly path-parameters-defined'],
    (it) => delete (put(it) as Partial<Loose>).parameters,
  ],
  ['what OpenAPI does not know', ['redocly struct'], (it) => Object.assign(put(it), { planted: true })],
])('%s is found', async (_name, rules, fault) => {
  const document = structuredClone(sound)
  fault(document)

  const found = await lintDocument(JSON.stringify(document))

  for (const rule of rules) expect(found).toContainEqual(expect.stringMatching(`^${rule}(-\\w+)*:`))
})
