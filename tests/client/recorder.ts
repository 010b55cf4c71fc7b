/** What stands between a client and the server, and holds each answer against the document of the API. */
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'

type Ref = { $ref: string }
type Answer = { content?: Record<string, { schema?: object }> }
type Operation = { operationId: string; responses: Record<string, Answer | Ref> }
export type ApiDocument = { paths: Record<string, Record<string, Operation>>; components: object }

export type Recorder = {
  fetch(request: Request): Promise<Response>
  /** What an answer was that the document does not know, a line for each. */
  readonly unlike: string[]
  /** The operations that have done what they are for. */
  readonly succeeded: ReadonlySet<string>
}

export const operationIds = ({ paths }: ApiDocument): string[] =>
  Object.values(paths).flatMap((methods) => Object.values(methods).map(({ operationId }) => operationId))

export const makeRecorder = (document: ApiDocument): Recorder => {
  const ajv = new Ajv2020({ strict: false, validateFormats: true, allErrors: true })
  addFormats.default(ajv)
  ajv.addSchema({ $id: 'api', components: document.components })
  const compiled = new Map<object, ValidateFunction>()
  const validatorOf = (schema: object): ValidateFunction => {
    const known = compiled.get(schema) ?? ajv.compile(withAbsoluteRefs(schema))
    compiled.set(schema, known)
    return known
  }

  const routes = Object.entries(document.paths)
    // `/projects/statistics` before `/projects/{id}`
    .sort(([a], [b]) => a.split('{').length - b.split('{').length)
    .map(([path, methods]) => ({
      pattern: new RegExp(`^${path.replaceAll('.', '\\.').replace(/\{\w+\}/g, '[^/]+')}$`),
      methods,
    }))

  const unlike: string[] = []
  const succeeded = new Set<string>()

  /** What is wrong with an answer. */
  const examine = async (operation: Operation, response: Response): Promise<string[]> => {
    const answer = operation.responses[String(response.status)]
    if (!answer) return [`${response.status} is not among its answers`]
    const { content = {} } = resolve(document, answer)
    const text = await response.clone().text()
    const type = response.headers.get('content-type')?.split(';')[0] ?? ''
    if (Object.keys(content).length === 0) return text === '' ? [] : ['there is a body']
    const media = content[type] ?? content['*/*']
    if (!media) return [`${type} is not what it answers with`]
    if (!media.schema || !/^application\/(.+\+)?json$/.test(type)) return []
    const validate = validatorOf(media.schema)
    if (validate(JSON.parse(text))) return []
    return (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`)
  }

  return {
    unlike,
    succeeded,
    async fetch(request) {
      const response = await fetch(request)
      const { pathname } = new URL(request.url)
      const method = request.method.toLowerCase()
      const operation = routes.find(({ pattern, methods }) => pattern.test(pathname) && methods[method])?.methods[
        method
      ]
      if (!operation) unlike.push(`${request.method} ${pathname} is no operation`)
      else {
        const found = await examine(operation, response)
        unlike.push(...found.map((each) => `${operation.operationId}, ${response.status}: ${each}`))
        if (response.ok && found.length === 0) succeeded.add(operation.operationId)
      }
      return response
    },
  }
}

const resolve = <T extends object>(document: object, part: T | Ref): T => {
  if (!('$ref' in part)) return part
  const names = part.$ref.replace(/^#\//, '').split('/')
  return resolve(document, names.reduce<unknown>((at, name) => (at as Record<string, unknown>)[name], document) as T)
}

const withAbsoluteRefs = (schema: object): object =>
  JSON.parse(JSON.stringify(schema).replaceAll('"$ref":"#/', '"$ref":"api#/')) as object
