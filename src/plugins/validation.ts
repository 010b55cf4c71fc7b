import { isUtf8 } from 'node:buffer'
import buildAjv from '@fastify/ajv-compiler'
import type { FastifySchemaCompiler } from 'fastify'
import fp from 'fastify-plugin'
import { Problem } from '../errors.ts'
import { fieldErrorsOf } from '../lib/field-errors.ts'
import { findFlaw } from '../lib/flaws.ts'
import { queryReader } from '../lib/query-values.ts'
import { isTimestamp } from '../lib/timestamp.ts'

/** What a request may contain: JSON in UTF-8, of the shape its route declares, without what PostgreSQL cannot keep. */
export const validation = fp(
  async (app) => {
    const parseJson = app.getDefaultJsonParser('error', 'error')
    app.removeAllContentTypeParsers()
    app.addContentTypeParser<Buffer>(
      ['application/json', 'application/merge-patch+json'],
      { parseAs: 'buffer' },
      (request, body, done) => {
        const coding = request.headers['content-encoding'] ?? 'identity'
        if (coding !== 'identity')
          return done(new Problem('unsupported_media_type', { detail: 'Send it uncompressed.' }))
        if (!isUtf8(body)) return done(new Problem('malformed', { detail: 'The body is not UTF-8.' }))
        // No body at all: a route that needs one says so
        return body.length === 0 ? done(null, undefined) : parseJson(request, body.toString(), done)
      },
    )

    app.addHook('preValidation', (request, _reply, done) => {
      const flaw = findFlaw(request.body) ?? findFlaw(request.query) ?? findFlaw(request.params)
      done(flaw && new Problem('invalid', { errors: [flaw] }))
    })

    // a parameter that nobody reads is a mistake, and is said to be one; so a route that declares none takes none
    app.addHook('onRoute', (route) => {
      const { querystring = {} } = (route.schema ?? {}) as { querystring?: { additionalProperties?: unknown } }
      if (Object.keys(querystring).length > 0 && querystring.additionalProperties !== false) {
        throw new Error(`${route.url} takes query parameters that it does not know`)
      }
      route.schema = { querystring: NO_PARAMETERS, ...route.schema }
    })

    app.setValidatorCompiler(makeValidatorCompiler())
  },
  { name: 'validation', dependencies: ['errors'] },
)

const NO_PARAMETERS = { type: 'object', properties: {}, additionalProperties: false }

const PARTS: Readonly<Record<string, string>> = {
  body: 'The body',
  querystring: 'The query string',
  params: 'The path',
  headers: 'The headers',
}

/** As PostgreSQL reads them; Ajv's own also takes `urn:uuid:`. */
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/** `x-normal-form: NFC`: the text is brought into that form, before its length is looked at. */
const normalForm = {
  keyword: 'x-normal-form',
  type: 'string',
  schemaType: 'string',
  before: 'maxLength',
  modifying: true,
  errors: false,
  compile:
    (form: string) =>
    (text: string, at?: { parentData: Record<string | number, unknown>; parentDataProperty: string | number }) => {
      if (at) at.parentData[at.parentDataProperty] = text.normalize(form)
      return true
    },
} as const

const rules = {
  removeAdditional: false, // an unknown field is a mistake, and is said to be one
  useDefaults: true,
  coerceTypes: false, // Ajv reads `0x10`, `1e1` and ` 1` as numbers
} as const

/**
 * Values are taken as they are; only in the query string, where everything is text, does `20` become a number. The first
 * error ends the search, since a large body can have as many as it has values; a small one is then searched for all.
 */
const makeValidatorCompiler = (): FastifySchemaCompiler<object> => {
  const build = buildAjv()
  const ajv = (allErrors: boolean) =>
    build(
      {},
      {
        customOptions: { ...rules, allErrors },
        onCreate: (instance) =>
          void instance.addFormat('uuid', UUID).addFormat('date-time', isTimestamp).addKeyword(normalForm),
      },
    )
  const [first, every] = [ajv(false), ajv(true)]

  return ({ schema, httpPart = 'body', method, url }) => {
    const definition = { schema, method, url, httpPart }
    const isValid = first(definition)
    let isWhollyValid: typeof isValid | undefined
    const read = httpPart === 'querystring' ? queryReader(schema) : undefined

    return (data: unknown) => {
      if (read) {
        read(data as Record<string, unknown>)
        const flaw = findFlaw(data) // digits enough are beyond every number
        if (flaw) return { error: new Problem('invalid', { errors: [flaw] }) }
      }
      if (isValid(data)) return true
      let { errors } = isValid
      if (isSmall(data)) {
        isWhollyValid ??= every(definition)
        if (!isWhollyValid(data)) errors = isWhollyValid.errors
      }
      const detail = `${PARTS[httpPart] ?? 'The request'} does not have the expected shape.`
      return { error: new Problem('invalid', { detail, errors: fieldErrorsOf(errors ?? []) }) }
    }
  }
}

const SMALL = 200

/** Whether a value consists of few enough others to look at each. */
const isSmall = (data: unknown): boolean => {
  const open = [data]
  for (let seen = 0; open.length > 0; seen += 1) {
    const value = open.pop()
    if (typeof value === 'object' && value !== null) {
      const inner = Object.values(value)
      if (seen + open.length + inner.length > SMALL) return false
      open.push(...inner)
    }
  }
  return true
}
