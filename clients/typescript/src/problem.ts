import type { components } from './schema.ts'

/** RFC 9457, as this API has it. */
export type ProblemDocument = components['schemas']['Problem']
/** What programs go by. A newer server may know more. */
export type ProblemCode = ProblemDocument['code']

/** A request that the server refused. */
export class Problem extends Error {
  override readonly name = 'Problem'
  readonly code: ProblemCode
  readonly status: number
  readonly type: string
  readonly title: string
  readonly detail: string | undefined
  /** What to name when asking about this request. */
  readonly requestId: string
  /** Of a body that was refused: where, as a JSON pointer, and what. */
  readonly errors: readonly { path: string; message: string }[]
  readonly response: Response

  constructor({ code, status, type, title, detail, request_id, errors = [] }: ProblemDocument, response: Response) {
    super(`${code}: ${detail ?? title}`)
    this.code = code
    this.status = status
    this.type = type
    this.title = title
    this.detail = detail
    this.requestId = request_id
    this.errors = errors
    this.response = response
  }

  /** Whether it is one of these; TypeScript knows it from there on. */
  is<C extends ProblemCode>(...codes: C[]): this is Problem & { code: C } {
    return (codes as string[]).includes(this.code)
  }
}

/** An answer that this API does not give: something between here and there has answered. */
export class UnexpectedAnswer extends Error {
  override readonly name = 'UnexpectedAnswer'
  readonly status: number
  readonly response: Response

  constructor(response: Response) {
    super(`an answer ${response.status} that is no problem document`)
    this.status = response.status
    this.response = response
  }
}

/** What `error` of an answer is, as something to throw. */
export const problemOf = (error: unknown, response: Response): Problem | UnexpectedAnswer =>
  isProblem(error) ? new Problem(error, response) : new UnexpectedAnswer(response)

const isProblem = (value: unknown): value is ProblemDocument =>
  typeof value === 'object' &&
  value !== null &&
  'code' in value &&
  typeof value.code === 'string' &&
  'status' in value &&
  typeof value.status === 'number'

type Answer = { data?: unknown; error?: unknown; response: Response }
type DataOf<A extends Answer> = A extends { data: infer D; error?: undefined } ? D : NonNullable<A['data']>

/**
 * What was asked for, of a call: `const project = await take(client.GET(…))`. Throws a Problem for a refusal, an
 * UnexpectedAnswer for what is none, and a 304; and what the call itself throws when there is no answer.
 */
export const take = async <A extends Answer>(call: Promise<A>): Promise<DataOf<A>> => {
  const { data, error, response } = await call
  if (!response.ok) throw problemOf(error, response)
  return data as DataOf<A>
}
