import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { compareWithRelease, release } from '../../scripts/openapi/released.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'released-'))
  await mkdir(join(folder, 'docs'))
  await write('CHANGELOG.md', '# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-03-01\n\n## [1.1.0]\n')
})
afterEach(() => rm(folder, { recursive: true }))

const write = (name: string, content: unknown) =>
  writeFile(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content))

const documentOf = (...paths: string[]) => ({
  info: { version: '1.2.0' },
  paths: Object.fromEntries(paths.map((path) => [path, { get: { operationId: 'x', responses: { 200: {} } } }])),
})
const broken = 'GET /moons: it is gone'

test('this repository breaks nothing that its last release promised', async () => {
  expect(await compareWithRelease(join(import.meta.dirname, '..', '..'))).toEqual([])
})

test('what is added since a release is let through, what breaks it is not', async () => {
  await write('docs/openapi.json', documentOf('/moons'))
  expect(await release(folder)).toBe('1.2.0')
  expect(await compareWithRelease(folder)).toEqual([])

  await write('docs/openapi.json', documentOf('/moons', '/rockets'))
  expect(await compareWithRelease(folder)).toEqual([])

  await write('docs/openapi.json', documentOf('/rockets'))
  expect(await compareWithRelease(folder)).toEqual([`breaks what 1.2.0 promised: ${broken}`])
})

test('a break that was decided on is accepted, until it is none any more', async () => {
  await write('docs/openapi.json', documentOf('/moons'))
  await release(folder)
  await write('docs/openapi.accepted.json', { [broken]: 'There are none.' })
  expect(await compareWithRelease(folder)).toEqual([`docs/openapi.accepted.json accepts what is not so: ${broken}`])

  await write('docs/openapi.json', documentOf())
  expect(await compareWithRelease(folder)).toEqual([])

  await release(folder)
  expect(await compareWithRelease(folder)).toEqual([])
  expect(JSON.parse(await readFile(join(folder, 'docs/openapi.accepted.json'), 'utf8'))).toEqual({})
})

test('a break without a reason is not accepted', async () => {
  await write('docs/openapi.json', documentOf('/moons'))
  await release(folder)
  await write('docs/openapi.json', documentOf())
  await write('docs/openapi.accepted.json', { [broken]: '' })

  expect(await compareWithRelease(folder)).toEqual([`breaks what 1.2.0 promised: ${broken}`])
})

test.each([
  ['there is none', undefined],
  ['it is that of another version', '1.1.0'],
])('a release without its document is refused: %s', async (_name, version) => {
  await write('docs/openapi.json', documentOf('/moons'))
  if (version) await write('docs/openapi.released.json', { ...documentOf(), info: { version } })

  const [line] = await compareWithRelease(folder)
  expect(line).toMatch(/^CHANGELOG\.md has 1\.2\.0 as its last release, docs\/openapi\.released\.json /)
})
