/** What `npm start` prints at its end: where everything is, who can sign in, and isolation to see for oneself. */
import { demoEmail, demoOperator, demoPassword, demoRoles, demoTenants } from './seed.ts'

type Where = { origin: string; docs: boolean; database: string; mail: string }

export const describeAddresses = ({ origin, docs, database, mail }: Where): string =>
  lines([
    ['API', `${origin}/api/v1`],
    ['docs', docs ? `${origin}/api/docs` : 'off (DOCS_ENABLED=true turns them on)'],
    ['database', database],
    ['mail', mail],
  ])

export const describeLogins = (): string => {
  const people = demoTenants.map(
    ({ slug }) => [slug, demoRoles.map((role) => demoEmail(role, slug)).join('  ')] as const,
  )
  return `Demo logins, password of all: ${demoPassword}\n\n${lines([...people, ['all tenants', `${demoOperator}  (POST /operators/login)`]])}`
}

/**
 * Two requests for one project of acme: with acme's token it is there, with globex's it is not. Tokens are fresh;
 * answers undefined, with the reason, when a demo person cannot sign in.
 */
export const describeIsolation = async (origin: string): Promise<{ commands: string } | { reason: string }> => {
  try {
    const acme = await signIn(origin, demoEmail('owner', 'acme'))
    const globex = await signIn(origin, demoEmail('owner', 'globex'))
    const { data } = await ask<{ data: { id: string }[] }>(origin, 'projects?limit=1', { token: acme })
    const project = data[0] ?? (await ask<{ id: string }>(origin, 'projects', { token: acme, body: { name: 'demo' } }))
    const request = (token: string) =>
      `curl -i '${origin}/api/v1/projects/${project.id}' -H 'Authorization: Bearer ${token}'`
    return {
      commands: `A project of acme, asked for by acme (200):\n\n${request(acme)}\n\nThe same project, asked for by globex (404):\n\n${request(globex)}`,
    }
  } catch (error) {
    return { reason: error instanceof Error ? error.message : String(error) }
  }
}

const signIn = async (origin: string, email: string): Promise<string> => {
  const body = { email, password: demoPassword }
  return (await ask<{ access_token: string }>(origin, 'auth/login', { body })).access_token
}

const ask = async <T>(origin: string, path: string, { token, body }: { token?: string; body?: object }): Promise<T> => {
  const response = await fetch(`${origin}/api/v1/${path}`, {
    method: body ? 'POST' : 'GET',
    headers: {
      ...(body && { 'content-type': 'application/json' }),
      ...(token && { authorization: `Bearer ${token}` }),
    },
    ...(body && { body: JSON.stringify(body) }),
    redirect: 'manual',
    signal: AbortSignal.timeout(10_000),
  })
  if (!response.ok) {
    const problem = (await response.json().catch(() => ({}))) as { title?: string }
    throw new Error(`${path} answered ${response.status} ${problem.title ?? ''}`.trim())
  }
  return (await response.json()) as T
}

const lines = (rows: readonly (readonly [string, string])[]): string => {
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`).join('\n')
}
