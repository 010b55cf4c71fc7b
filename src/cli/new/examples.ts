import { defaultOf, type Field, valuesFor } from './fields.ts'
import type { Names } from './names.ts'

/** How a row that is referred to is made in a shell: lines that keep its id in a variable. */
export type ShellMaker = { variable: string; lines: readonly string[] }

/** Every route with a curl and its answer: docs/resources/…, whose requests a test sends. */
export const examples = (names: Names, fields: readonly Field[], makers: ReadonlyMap<string, ShellMaker>): string => {
  const { table, path, all, some, singular } = names
  const id = singular.replaceAll('_', '').toUpperCase()
  const required = fields.filter((field) => field.required)
  const shown = (field: Field, nth = 0) =>
    field.type.kind === 'ref' ? '"01997b0e-9c4b-770f-aa9b-fc38648dc38b"' : (valuesFor(field)[nth] ?? '')
  const sent = (field: Field) =>
    field.type.kind === 'ref' ? `"'"$${makers.get(field.type.table)?.variable}"'"` : valuesFor(field)[0]
  const body = `{${required.map((field) => `"${field.name}": ${sent(field)}`).join(', ')}}`
  const changed = fields.find(({ type }) => type.kind !== 'ref')
  const change = changed ? `{"${changed.name}": ${shown(changed, 1)}}` : '{}'
  const line = (field: Field) =>
    `  "${field.name}": ${field.required ? shown(field) : (defaultOf(field) ?? '').replaceAll("'", '"')},`
  const setUp = new Set(
    required.flatMap(({ type }) => (type.kind === 'ref' ? (makers.get(type.table)?.lines ?? []) : [])),
  )
  const json = `-H 'Content-Type: application/json'`
  const owner = `-H "Authorization: Bearer $ACME"`

  return `\
# ${all.charAt(0).toUpperCase()}${all.slice(1)}

What is true of every resource stands in [the API by example](../api-examples.md); this is the rest, to be run from top to bottom in one shell.

\`\`\`sh
BASE=http://127.0.0.1:3000
API=$BASE/api/v1
field() { sed -n 's/.*"'"$1"'":"\\([^"]*\\)".*/\\1/p'; }
ACME=$(curl -s "$API/auth/login" ${json} \\
  -d '{"email": "owner@acme.test", "password": "correct horse battery staple"}' | field access_token)
${[...setUp].map((text) => `${text}\n`).join('')}\`\`\`

Permissions: \`${table}:read\` and \`${table}:write\`, which every role has, and \`${table}:delete\`, which members lack.

\`\`\`sh
curl -i "$API${path}" ${owner} ${json} \\
  -d '${body}'
\`\`\`

\`\`\`http
HTTP/1.1 201 Created
location: /api/v1${path}/…
etag: "1"

{
  "id": "01997b0e-9c4b-770f-aa9b-fc38648dc38b",
${fields.map(line).join('\n')}
  "created_at": "2026-03-01T12:00:00.123456Z",
  "updated_at": "2026-03-01T12:00:00.123456Z",
  "version": 1
}
\`\`\`

\`\`\`sh
curl -i "$API${path}?limit=1" ${owner}
\`\`\`

\`\`\`http
HTTP/1.1 200 OK

{ "data": [{ "version": 1, "…": "…" }], "next_cursor": null }
\`\`\`

\`\`\`sh
${id}=$(curl -s "$API${path}" ${owner} | field id)
\`\`\`

\`\`\`sh
curl -i "$API${path}/$${id}" ${owner}
\`\`\`

\`\`\`http
HTTP/1.1 200 OK
etag: "1"

{ "version": 1, "…": "…" }
\`\`\`

A JSON merge patch: what it does not name stays as it is.

\`\`\`sh
curl -i "$API${path}/$${id}" -X PATCH ${owner} ${json} \\
  -d '${change}'
\`\`\`

\`\`\`http
HTTP/1.1 200 OK
etag: ${changed ? '"2"' : '"1"'}

{ ${changed ? `"${changed.name}": ${shown(changed, 1)}, ` : ''}"…": "…" }
\`\`\`

To replace ${some} is to say all of it; what is left out goes back to its default.

\`\`\`sh
curl -i "$API${path}/$${id}" -X PUT ${owner} ${json} \\
  -d '${body}'
\`\`\`

\`\`\`http
HTTP/1.1 200 OK
etag: ${changed ? '"3"' : '"2"'}

{ "…": "…" }
\`\`\`

\`\`\`sh
curl -i "$API${path}/$${id}" -X DELETE ${owner}
\`\`\`

\`\`\`http
HTTP/1.1 204 No Content
\`\`\`
`
}
