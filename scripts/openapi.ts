/** What `npm run check` asks of docs/openapi.json, which `npm run generate` keeps up to date: that linters find nothing in it. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { lintDocument } from './openapi/lint.ts'

const document = join(import.meta.dirname, '..', 'docs', 'openapi.json')

const found = await lintDocument(await readFile(document, 'utf8'))
for (const each of found) console.error(each)
process.exitCode = found.length > 0 ? 1 : 0
