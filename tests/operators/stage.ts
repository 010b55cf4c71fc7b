/** Operators for tests: made as the command line makes them, signed in over HTTP. */
import { hashPassword } from '../../src/auth/passwords.ts'
import type { Answer, Client, World } from '../harness.ts'

export const operatorPassword = 'a mule in the engine room'

export type SignedInOperator = Client & { id: string; email: string; accessToken: string; refreshToken: string }

export async function makeOperator(it: World, email: string): Promise<string> {
  const { rows } = await it.superuser.query('select app.create_operator($1, $2, $3) as id', [
    email,
    'Olga Operator',
    await hashPassword(operatorPassword),
  ])
  return rows[0].id
}

export const loginOperator = (it: World, email: string, password = operatorPassword): Promise<Answer> =>
  it.anybody.post('/operators/login', { email, password })

export async function signInOperator(it: World, email: string): Promise<SignedInOperator> {
  const answer = await loginOperator(it, email)
  if (answer.statusCode !== 200) throw new Error(`${email} cannot sign in: ${answer.body}`)
  const { access_token, refresh_token, operator } = answer.json()
  return {
    ...it.client({ authorization: `Bearer ${access_token}` }),
    ...{ id: operator.id, email, accessToken: access_token, refreshToken: refresh_token },
  }
}

/** What the security log has of a request. */
export const securityLog = async (it: World, answer: Answer) => {
  const { rows } = await it.superuser.query(
    'select event, about_tenant_id, host(address) as address, detail from app.security_log where request_id = $1 order by at',
    [answer.headers['x-request-id']],
  )
  return rows
}

export const verdict = (answer: Answer) => [answer.statusCode, answer.json().code]
