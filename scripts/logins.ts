import type { LoginRole } from '../src/db/check.ts'

/** The roles that log in, by the names they have in scripts and tests. */
export const logins = {
  api: 'app_api',
  worker: 'app_worker',
  auth: 'app_auth',
  operator: 'app_operator',
  auditor: 'app_auditor',
  jobs: 'app_jobs',
} as const satisfies Record<string, LoginRole>

export type Login = keyof typeof logins

const form = /^(postgres(?:ql)?:\/\/)(?:[^/?]*@)?([^/?]*)(\/[^?]*)?(\?.*)?$/

/**
 * The same server for another login or another database. Done on the text: an address through a socket's folder
 * (`postgres://user@/db?host=/run/postgresql`) is none that `URL` understands.
 */
export const databaseUrl = (url: string, change: { user?: string; password?: string; database?: string }): string => {
  const [, scheme = '', host = '', path = '', rest = ''] = form.exec(url) ?? []
  const account = url.slice(scheme.length, url.length - host.length - path.length - rest.length)
  const named = change.database === undefined ? path : `/${change.database}`
  if (change.user === undefined) return `${scheme}${account}${host}${named}${rest}`

  // What stands behind the question mark wins over what stands in front of the host.
  const query = new URLSearchParams(rest)
  // An address that names no database means the one that is called like its login.
  const [before = ''] = account.replace(/@$/, '').split(':')
  const database = named.length > 1 ? named : `/${query.get('user') ?? before}`
  for (const name of ['user', 'password']) query.delete(name)
  const login = `${encodeURIComponent(change.user)}:${encodeURIComponent(change.password ?? '')}@`
  return `${scheme}${login}${host}${database}${query.size > 0 ? `?${query}` : ''}`
}
