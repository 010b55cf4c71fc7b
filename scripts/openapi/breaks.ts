/**
 * What breaks a client that was written for an earlier document of the API: an operation or an answer that is gone, more
 * that is asked for, less that is taken, other things that are answered. What is only added breaks nobody.
 */
import { isIncluded, type Schema } from './inclusion.ts'

type Ref = { $ref: string }
type Media = { schema?: Schema }
type Parameter = { name: string; in: string; required?: boolean; schema?: Schema }
type Body = { required?: boolean; content?: Record<string, Media> }
type Answer = { content?: Record<string, Media>; headers?: Record<string, unknown> }
type Requirement = Record<string, string[]>
type Operation = {
  operationId?: string
  parameters?: (Parameter | Ref)[]
  requestBody?: Body | Ref
  responses?: Record<string, Answer | Ref>
  security?: Requirement[]
}
type PathItem = Record<string, Operation> & { parameters?: (Parameter | Ref)[] }
export type ApiDocument = {
  paths?: Record<string, object>
  security?: Requirement[]
  components?: { securitySchemes?: Record<string, object> }
}

const METHODS = ['get', 'head', 'post', 'put', 'patch', 'delete', 'options']

/** One line for each break, such as `GET /projects: the parameter sort (query) is gone`. */
export const findBreaks = (released: ApiDocument, now: ApiDocument): string[] => [
  ...operationsOf(released).flatMap(({ name, path, method, operation: old }) => {
    const present = operationsOf(now).find((other) => other.path === path && other.method === method)?.operation
    if (!present) return [`${name}: it is gone`]
    const both: Both = { released, now, old, present }
    const found = [identity, parameters, body, answers, access].flatMap((examine) => examine(both))
    return found.map((what) => `${name}: ${what}`)
  }),
  ...schemes(released, now),
]

type Both = { released: ApiDocument; now: ApiDocument; old: Operation; present: Operation }

const operationsOf = ({ paths = {} }: ApiDocument) =>
  Object.entries(paths as Record<string, PathItem>).flatMap(([path, item]) =>
    METHODS.flatMap((method) => {
      const operation = item[method]
      if (!operation) return []
      const shared = item.parameters ?? []
      const parameters = [...shared, ...(operation.parameters ?? [])]
      return [{ name: `${method.toUpperCase()} ${path}`, path, method, operation: { ...operation, parameters } }]
    }),
  )

const resolve = <T extends object>(document: ApiDocument, part: T | Ref): T => {
  if (!('$ref' in part)) return part
  const names = part.$ref.replace(/^#\//, '').split('/')
  const found = names
    .map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~'))
    .reduce<unknown>((at, name) => (at as Record<string, unknown> | undefined)?.[name], document)
  if (typeof found !== 'object' || found === null) throw new Error(`${part.$ref} leads nowhere`)
  return resolve(document, found as T | Ref)
}

const identity = ({ old, present }: Both): string[] =>
  old.operationId === present.operationId
    ? []
    : [`its operationId was ${old.operationId}, and is ${present.operationId}`]

// What is asked for

const parametersOf = (document: ApiDocument, { parameters = [] }: Operation): Map<string, Parameter> =>
  new Map(
    parameters.map((each) => {
      const parameter = resolve(document, each)
      return [`${parameter.name} (${parameter.in})`, parameter]
    }),
  )

const parameters = ({ released, now, old, present }: Both): string[] => {
  const before = parametersOf(released, old)
  const after = parametersOf(now, present)
  const gone = [...before.keys()].filter((name) => !after.has(name)).map((name) => `the parameter ${name} is gone`)
  const changed = [...after].flatMap(([name, parameter]) => {
    const known = before.get(name)
    const demanded = parameter.required && !known?.required ? [`the parameter ${name} is required`] : []
    if (!known) return demanded
    const said = `the parameter ${name}`
    return [...demanded, ...narrowed(said, [released, known.schema], [now, parameter.schema])]
  })
  return [...gone, ...changed]
}

const body = ({ released, now, old, present }: Both): string[] => {
  const before = old.requestBody && resolve(released, old.requestBody)
  const after = present.requestBody && resolve(now, present.requestBody)
  if (!before) return after?.required ? ['a body is required'] : []
  if (!after) return ['no body is taken']
  return [
    ...(after.required && !before.required ? ['a body is required'] : []),
    ...Object.entries(before.content ?? {}).flatMap(([type, { schema }]) => {
      const taken = after.content?.[type]
      return taken ? narrowed('the body', [released, schema], [now, taken.schema]) : [`a body of ${type} is not taken`]
    }),
  ]
}

type Placed = [document: ApiDocument, schema: Schema | undefined]

/** What was taken has to be taken. */
const narrowed = (what: string, [released, before]: Placed, [now, after]: Placed): string[] =>
  isIncluded({
    inner: { schema: before ?? {}, root: released },
    outer: { schema: after ?? {}, root: now },
    side: 'request',
  }).map((fault) => `${what}${fault}`)

// What is answered

/** Refusals come and go with what there is to refuse, and have one form; what is promised are the others. */
const isPromised = (status: string): boolean => /^[123]/.test(status)

const answers = ({ released, now, old, present }: Both): string[] => {
  const before = Object.entries(old.responses ?? {})
  const fresh = Object.keys(present.responses ?? {}).filter((status) => isPromised(status) && !old.responses?.[status])
  return [
    ...fresh.map((status) => `it can answer ${status}`),
    ...before.flatMap(([status, each]) => {
      const found = present.responses?.[status]
      if (!found) return isPromised(status) ? [`it does not answer ${status}`] : []
      return answer(`the answer ${status}`, [released, resolve(released, each)], [now, resolve(now, found)])
    }),
  ]
}

const answer = (what: string, [released, old]: [ApiDocument, Answer], [now, present]: [ApiDocument, Answer]) => [
  ...Object.keys(old.headers ?? {})
    .filter((name) => !present.headers?.[name])
    .map((name) => `${what} has no header ${name}`),
  ...Object.entries(old.content ?? {}).flatMap(([type, { schema }]) => {
    const found = present.content?.[type]
    if (!found) return [`${what} is not ${type}`]
    return isIncluded({
      inner: { schema: found.schema ?? {}, root: now },
      outer: { schema: schema ?? {}, root: released },
      side: 'answer',
    }).map((fault) => `${what}${fault}`)
  }),
]

// Who may

/** Each is a way in; without any, everybody is in. */
const waysInto = ({ security: common }: ApiDocument, { security = common ?? [] }: Operation): Requirement[] =>
  security.length === 0 ? [{}] : security

const access = ({ released, now, old, present }: Both): string[] => {
  const open = waysInto(now, present)
  const suffices = (way: Requirement) => open.some((asked) => asksNoMore(asked, way))
  return waysInto(released, old)
    .filter((way) => !suffices(way))
    .map((way) => `no way in any more: ${Object.keys(way).join(' and ') || 'without credentials'}`)
}

const asksNoMore = (asked: Requirement, shown: Requirement): boolean =>
  Object.entries(asked).every(
    ([scheme, scopes]) => scopes.every((scope) => shown[scheme]?.includes(scope)) && shown[scheme],
  )

const schemes = (released: ApiDocument, now: ApiDocument): string[] =>
  Object.entries(released.components?.securitySchemes ?? {}).flatMap(([name, scheme]) => {
    const present = now.components?.securitySchemes?.[name]
    const form = (of: object) => JSON.stringify(Object.entries({ ...of, description: '', bearerFormat: '' }).sort())
    return present && form(present) === form(scheme) ? [] : [`the security scheme ${name} is not what it was`]
  })
