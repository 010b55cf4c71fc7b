/**
 * What the last release promised: docs/openapi.released.json, a copy of the document as it was then, and beside it
 * docs/openapi.accepted.json, the breaks that were decided on since, each with its reason, until the next release.
 */
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type ApiDocument, findBreaks } from './breaks.ts'

type Accepted = Record<string, string>
type Released = ApiDocument & { info: { version: string } }

const places = (folder: string) => ({
  current: join(folder, 'docs', 'openapi.json'),
  released: join(folder, 'docs', 'openapi.released.json'),
  accepted: join(folder, 'docs', 'openapi.accepted.json'),
  changelog: join(folder, 'CHANGELOG.md'),
})

/** Lines that say what stands against this state of the repository in `folder`; none when nothing does. */
export const compareWithRelease = async (folder: string): Promise<string[]> => {
  const at = places(folder)
  const released = await readJson<Released>(at.released)
  const version = lastRelease(await readFile(at.changelog, 'utf8'))
  if (version !== released?.info.version) return [unlike(version, released?.info.version)]
  if (!released) return []

  const accepted = (await readJson<Accepted>(at.accepted)) ?? {}
  const breaks = findBreaks(released, (await readJson<ApiDocument>(at.current)) ?? {})
  return [
    ...breaks.filter((each) => !accepted[each]).map((each) => `breaks what ${version} promised: ${each}`),
    ...Object.keys(accepted)
      .filter((each) => !breaks.includes(each))
      .map((each) => `docs/openapi.accepted.json accepts what is not so: ${each}`),
  ]
}

/** Makes the document of now the released one; nothing is accepted any more. Answers with the version. */
export const release = async (folder: string): Promise<string> => {
  const at = places(folder)
  const current = await readJson<Released>(at.current)
  if (!current) throw new Error('docs/openapi.json is missing: run `npm run generate`')
  await copyFile(at.current, at.released)
  await writeFile(at.accepted, '{}\n')
  return current.info.version
}

const unlike = (version: string | undefined, released: string | undefined): string =>
  `CHANGELOG.md has ${version ?? 'nothing'} as its last release, docs/openapi.released.json ${released ?? 'is missing'}: ` +
  'run `npm run openapi -- release` in the commit that releases, and only there'

/** By its heading, as Keep a Changelog has it: `## [1.2.0] - 2026-03-01`. */
const lastRelease = (changelog: string): string | undefined => /^## \[(\d+\.\d+\.\d+[^\]]*)\]/m.exec(changelog)?.[1]

const readJson = async <T>(file: string): Promise<T | undefined> => {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as T
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
