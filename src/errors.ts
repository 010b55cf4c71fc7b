/**
 * Everything that can go wrong, as RFC 9457 problems: one table of codes, one class, one table from SQLSTATE.
 * Codes are API and do not change; titles are prose. What PostgreSQL said stays in the log.
 */
import { ownConstraints, ownFields, ownProblems, ownReferred } from './own-errors.ts'

export const problems = {
  invalid: [400, 'The request does not have the expected shape.'],
  malformed: [400, 'The request could not be read.'],
  token_invalid: [400, 'The token is not good, or not any more.'],
  invalid_cursor: [400, 'The cursor does not belong to this list.'],
  tenant_required: [400, 'Name the tenant of this request.'],
  tenant_conflict: [400, 'The request names more than one tenant.'],
  https_required: [400, 'This service is reached over https only.'],
  unauthenticated: [401, 'Valid credentials are needed.'],
  invalid_credentials: [401, 'The e-mail address or the password is wrong.'],
  invalid_token: [401, 'The refresh token is not good, or not any more.'],
  mfa_required: [401, 'A code of the second factor is needed.'],
  invalid_code: [401, 'The code is wrong, or was used.'],
  session_expired: [401, 'This tenant asks you to sign in again.'],
  forbidden: [403, 'You may not do this.'],
  cross_site: [403, 'A page of another site may not use this session.'],
  registration_closed: [403, 'Nobody registers here. Ask whoever runs this service, or to be invited.'],
  not_a_member: [403, 'You are not a member of this tenant.'],
  tenant_suspended: [403, 'This tenant is suspended.'],
  network_not_allowed: [403, 'This tenant is not reached from your network.'],
  second_factor_required: [403, 'This tenant asks for a second factor.'],
  not_found: [404, 'There is no such resource here.'],
  route_not_found: [404, 'There is no such route.'],
  method_not_allowed: [405, 'The method is not allowed here.'],
  not_acceptable: [406, 'No acceptable representation exists.'],
  conflict: [409, 'The request conflicts with what exists.'],
  name_taken: [409, 'This name is taken in this tenant.'],
  external_id_taken: [409, 'There is an actor of this kind with this external id.'],
  email_taken: [409, 'This e-mail address is registered.'],
  slug_taken: [409, 'This tenant slug is taken.'],
  mfa_enabled: [409, 'The second factor is on.'],
  mfa_not_enabled: [409, 'There is no second factor for this.'],
  not_sealed: [409, 'This entry of the audit log is not sealed yet.'],
  overlap_running: [409, 'An earlier secret of this key is still good.'],
  already_asked: [409, 'You have asked already, and nobody has decided yet.'],
  not_asked: [409, 'Nobody waits to be let in here.'],
  being_erased: [409, 'The erasure of this tenant has begun.'],
  already_member: [409, 'This person is a member of this tenant.'],
  already_invited: [409, 'This address is invited to this tenant.'],
  role_in_use: [409, 'Somebody has this role.'],
  in_use: [409, 'Something refers to this resource.'],
  project_not_empty: [409, 'The project has tasks or documents.'],
  idempotency_in_progress: [409, 'A request with this idempotency key is still running.'],
  precondition_failed: [412, 'The resource has changed since it was read.'],
  too_large: [413, 'The request body is too large.'],
  uri_too_long: [414, 'The request target is too long.'],
  unsupported_media_type: [415, 'The body is of a type, or in a coding, that is not taken here.'],
  range_not_satisfiable: [416, 'There is not a byte of it in this range.'],
  expectation_failed: [417, 'The expectation cannot be met.'],
  unprocessable: [422, 'The request breaks a rule.'],
  last_owner: [422, 'A tenant keeps an active owner.'],
  role_built_in: [422, 'A built-in role is fixed.'],
  too_many_roles: [422, 'A tenant has 100 roles of its own at most.'],
  reference_not_found: [422, 'A referenced resource does not exist in this tenant.'],
  idempotency_mismatch: [422, 'This idempotency key was used with another request.'],
  digest_mismatch: [422, 'What arrived has another checksum than it was sent with.'],
  legal_hold: [423, 'This tenant is on legal hold.'],
  upgrade_required: [426, 'This answer needs HTTP/1.1 or later.'],
  rate_limited: [429, 'Too many requests.'],
  too_many_failures: [429, 'Too many attempts have failed. Wait before the next.'],
  headers_too_large: [431, 'The request headers are too large.'],
  request_timeout: [408, 'The request took too long to arrive.'],
  client_closed: [499, 'The client went away.'],
  internal: [500, 'Something went wrong on our side.'],
  unavailable: [503, 'The service is not available right now.'],
  drift: [503, 'The service has stopped, since its database is not as it must be.'],
  overloaded: [503, 'The service is overloaded.'],
  lock_timeout: [503, 'Another request holds what this one needs.'],
  deadlock: [503, 'Another request stood in the way of this one.'],
  serialization_failure: [503, 'Another request changed what this one had read.'],
  timeout: [504, 'The request took too long.'],
  transaction_timeout: [504, 'The transaction was open for too long.'],
  ...ownProblems,
} as const satisfies Record<string, readonly [status: number, title: string]>

export type ProblemCode = keyof typeof problems

export type FieldError = { path: string; message: string }

type ProblemOptions = {
  /** One sentence for people; never text from the database. */
  detail?: string
  errors?: FieldError[]
  headers?: Record<string, string>
  cause?: unknown
  /** Somebody is to be woken. */
  alarm?: string
}

/** The one way to refuse: throw it anywhere below a route; the transaction rolls back and the error handler answers. */
export class Problem extends Error {
  readonly code: ProblemCode
  readonly status: number
  readonly detail: string | undefined
  readonly errors: FieldError[] | undefined
  readonly headers: Record<string, string>
  readonly alarm: string | undefined

  constructor(code: ProblemCode, { detail, errors, headers = {}, cause, alarm }: ProblemOptions = {}) {
    super(code, { cause })
    this.name = 'Problem'
    this.code = code
    this.status = problems[code][0]
    this.detail = detail
    this.errors = errors
    this.headers = headers
    this.alarm = alarm
  }
}

/**
 * The problem as it is sent (RFC 9457). The type is a reference to this server (section 3.1.1 permits a relative one):
 * `GET /problems/{code}` answers with what the table says.
 */
export const problemDocument = ({ code, status, detail, errors }: Problem, requestId: string): string =>
  JSON.stringify({
    type: `/problems/${code}`,
    title: problems[code][1],
    status,
    detail: detail ?? problems[code][1],
    code,
    request_id: requestId,
    errors,
  })

export const problemMediaType = 'application/problem+json'

/** A problem as it looks, for the documentation. */
export const problemExample = (code: ProblemCode): unknown =>
  JSON.parse(problemDocument(new Problem(code), '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11'))

// What others throw

/** By SQLSTATE, else by its class (the first two characters). Anything that is not here is our own mistake: internal. */
const sqlstates: Readonly<Record<string, ProblemCode>> = {
  // Raised by app.enter and the functions around it
  BH001: 'unauthenticated',
  BH002: 'not_a_member',
  BH003: 'tenant_suspended',
  BH004: 'forbidden',
  BH005: 'tenant_conflict',
  BH015: 'legal_hold',
  BH016: 'being_erased',
  BH020: 'network_not_allowed',
  BH021: 'session_expired',
  BH022: 'second_factor_required',
  BH023: 'last_owner',
  BH026: 'mfa_required',
  BH027: 'invalid_code',
  BH028: 'precondition_failed',

  '08': 'unavailable',
  '22': 'unprocessable',
  23001: 'in_use',
  23502: 'unprocessable',
  23503: 'reference_not_found',
  23505: 'conflict',
  23514: 'unprocessable',
  '23P01': 'conflict',
  25006: 'unavailable', // a standby answers where the primary was: a failover
  '25P03': 'transaction_timeout',
  '25P04': 'transaction_timeout',
  26000: 'unavailable', // a pooler gave us a connection that does not know our statement
  '42P05': 'unavailable', // or one that knows it already
  '0A000': 'unavailable', // a statement was planned before a migration; a new connection plans it anew
  28000: 'unavailable',
  '28P01': 'unavailable',
  '3D000': 'unavailable',
  40001: 'serialization_failure',
  '40P01': 'deadlock',
  42501: 'forbidden',
  '53': 'unavailable',
  54000: 'unprocessable', // a value too long for its index
  '55P03': 'lock_timeout',
  57014: 'timeout',
  '57P': 'unavailable',
  '58': 'unavailable',
}

/** A constraint whose breach has a name of its own. Constraint names never leave; these codes do. */
const constraints: Readonly<Record<string, ProblemCode>> = {
  access_grants_open: 'already_asked',
  actors_external_id_key: 'external_id_taken',
  memberships_email_key: 'already_invited',
  memberships_role_fkey: 'role_in_use',
  memberships_user_key: 'already_member',
  projects_name_key: 'name_taken',
  roles_few: 'too_many_roles',
  roles_name_key: 'name_taken',
  tenants_slug_key: 'slug_taken',
  users_email_key: 'email_taken',
  operators_email_key: 'email_taken',
  ...ownConstraints,
}

/** What is still referred to, by the reference that says so; of any other it is `in_use`. */
const referred: Readonly<Record<string, ProblemCode>> = {
  documents_project_id_fkey: 'project_not_empty',
  tasks_project_id_fkey: 'project_not_empty',
  ...ownReferred,
}

/** A constraint that is about one field of the body: which. */
const fields: Readonly<Record<string, FieldError>> = {
  actors_attributes_depth_check: { path: '/attributes', message: 'is nested more than 8 deep' },
  actors_attributes_size_check: { path: '/attributes', message: 'is larger than 16 KiB' },
  documents_project_id_fkey: { path: '/project_id', message: 'names no project of this tenant' },
  documents_words_check: { path: '/content', message: 'has too many different words' },
  tasks_assignee_id_fkey: { path: '/assignee_id', message: 'names no member of this tenant' },
  tasks_completed_at_check: { path: '/completed_at', message: 'is of tasks that are done' },
  tasks_project_id_fkey: { path: '/project_id', message: 'names no project of this tenant' },
  ...ownFields,
}

/** What only tampering, or a fault of the wall itself, can cause: answered as internal, and somebody is woken. */
const alarms: Readonly<Record<string, string>> = {
  BH006: 'context_entered_twice',
  BH007: 'context_tampered',
  BH008: 'write_without_context',
  BH010: 'audit_log_tampered',
  BH012: 'audit_seal_broken',
}

/** The database or a part of the network is gone. */
const connectionCodes = new Set(
  'ECONNREFUSED ECONNRESET EPIPE ETIMEDOUT EHOSTUNREACH ENETUNREACH ENOTFOUND EAI_AGAIN ECONNABORTED'.split(' '),
)

/** What the driver and its pool say in words only. */
const connectionMessages = [
  'Connection terminated',
  'timeout exceeded when trying to connect',
  'timeout expired',
  'Client has encountered a connection error',
  'Client was closed',
  'Cannot use a pool after calling end',
]

/** By the code of Fastify's own errors, else by their status. */
const frameworkCodes: Readonly<Record<string, ProblemCode>> = {
  FST_ERR_VALIDATION: 'invalid',
  FST_ERR_CTP_BODY_TOO_LARGE: 'too_large',
  FST_ERR_MAX_PARAM_LENGTH: 'uri_too_long',
  FST_UNDER_PRESSURE: 'overloaded',
}

const frameworkStatuses: Readonly<Record<number, ProblemCode>> = {
  400: 'malformed',
  401: 'unauthenticated',
  403: 'forbidden',
  404: 'route_not_found',
  405: 'method_not_allowed',
  406: 'not_acceptable',
  408: 'request_timeout',
  413: 'too_large',
  414: 'uri_too_long',
  415: 'unsupported_media_type',
  417: 'expectation_failed',
  422: 'unprocessable',
  429: 'rate_limited',
  431: 'headers_too_large',
  503: 'unavailable',
  504: 'timeout',
}

type DatabaseError = Error & { code: string; severity: string; constraint?: string; table?: string }

export const isDatabaseError = (error: unknown): error is DatabaseError =>
  error instanceof Error &&
  'severity' in error &&
  'code' in error &&
  typeof error.code === 'string' &&
  /^[0-9A-Z]{5}$/.test(error.code)

/** The alarm that an error raises, if it raises one. */
export const alarmOf = (error: unknown): string | undefined => {
  if (error instanceof Problem) return error.alarm
  return isDatabaseError(error) ? alarms[error.code] : undefined
}

/**
 * Anything thrown as the problem it is answered with. Of what is not ours only the code is looked at: no text of
 * PostgreSQL, of the driver or of a library reaches a client. `reading` is whether the request was a GET or HEAD:
 * what may not be read is absent. `takesBytes`: whether its route takes a body of any type, where others take JSON.
 */
export const problemOf = (error: unknown, { reading, takesBytes = false }: About): Problem => {
  if (error instanceof Problem) return error
  const code = codeOf(error, reading)
  const field = isDatabaseError(error) && problems[code][0] === 422 ? fields[error.constraint ?? ''] : undefined
  const taken = code === 'unsupported_media_type' ? TAKEN[takesBytes ? 'bytes' : 'json'] : undefined
  const detail = code === 'in_use' ? whatRefers(error) : taken
  return new Problem(code, { cause: error, ...(detail && { detail }), ...(field && { errors: [field] }) })
}

/** Tables are called as what is in them, which the API and its audit log call so, too. */
const whatRefers = (error: unknown): string | undefined =>
  isDatabaseError(error) && error.table ? `Some of the ${error.table.replaceAll('_', ' ')} refer to it.` : undefined

type About = { reading: boolean; takesBytes?: boolean | undefined }

const TAKEN = {
  json: 'Send application/json.',
  bytes: 'Send a Content-Type that is a media type, such as application/pdf, or none.',
} as const

const codeOf = (error: unknown, reading: boolean): ProblemCode => {
  if (isDatabaseError(error)) return databaseCodeOf(error, reading)
  if (!(error instanceof Error)) return 'internal'

  const { code, statusCode, message } = error as Error & { code?: unknown; statusCode?: unknown }
  if (connectionCodes.has(String(code))) return 'unavailable'
  if (connectionMessages.some((start) => message.startsWith(start))) return 'unavailable'
  // Only Fastify's: a status that another server answered us with is no status of ours
  if (!String(code).startsWith('FST_')) return 'internal'
  return frameworkCodes[String(code)] ?? frameworkStatuses[Number(statusCode)] ?? 'internal'
}

const databaseCodeOf = ({ code, constraint, message }: DatabaseError, reading: boolean): ProblemCode => {
  if (constraint !== undefined && constraints[constraint]) return constraints[constraint]
  if (code === '42501' && reading) return 'not_found'
  // One SQLSTATE for two things: a reference to nothing, and removing what is still referred to
  if (code === '23503' && message.startsWith('update or delete on')) return referred[constraint ?? ''] ?? 'in_use'
  return sqlstates[code] ?? sqlstates[code.slice(0, 3)] ?? sqlstates[code.slice(0, 2)] ?? 'internal'
}
