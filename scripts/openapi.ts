/**
 * What is asked of docs/openapi.json, which `npm run generate` keeps up to date:
 *
 *   npm run openapi              linters find nothing in it, and it breaks nothing that the last release promised
 *   npm run openapi -- release   it is released: later documents are compared with this one
 *
 * `npm run check` asks the former.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { lintDocument } from './openapi/lint.ts'
import { compareWithRelease, release } from './openapi/released.ts'

const root = join(import.meta.dirname, '..')
const [command, ...others] = process.argv.slice(2)

if (others.length > 0 || (command !== undefined && command !== 'release')) {
  console.error(`openapi knows release, or nothing, and not ${process.argv.slice(2).join(' ')}.`)
  process.exitCode = 1
} else if (command === 'release') {
  console.log(`docs/openapi.released.json is that of ${await release(root)}`)
} else {
  const document = await readFile(join(root, 'docs', 'openapi.json'), 'utf8')
  const found = [...(await compareWithRelease(root)), ...(await lintDocument(document))]
  for (const each of found) console.error(each)
  process.exitCode = found.length > 0 ? 1 : 0
}
