/** A token for curl. */
import { parseArgs } from 'node:util'
import { readConfig } from '../config.ts'
import { isDatabaseError } from '../errors.ts'
import { type Command, UsageError } from './command.ts'
import { unreachable, withClient } from './database.ts'
import { makeToken } from './developer.ts'
import { mustBeDevelopment } from './production.ts'

export const tokenCommand: Command = {
  usage: 'EMAIL [--tenant SLUG]',
  summary: 'Prints an access token to develop with, good for 24 hours. Not in production.',
  help: `As DATABASE_OWNER_URL, with the JWT_KEYS and ENCRYPTION_KEYS of the API; while \`npm start\` runs, it finds all of these.
Of several tenants --tenant names one; without it the token names none, and requests do.
  curl -H "Authorization: Bearer $(npm run -s cli -- token owner@acme.test)" http://127.0.0.1:3000/api/v1/projects`,

  async run(args, env) {
    const { email, tenantSlug } = parse(args)
    mustBeDevelopment('token', readConfig(env, 'everybody'))
    const config = readConfig(env, 'developer')
    return withClient(config.databases.owner, async (client) => {
      await client.query('set role app_gate')
      const { rows } = await client.query<{ id: string }>(
        `select id from app.users where email = $1 and status = 'active'`,
        [email],
      )
      const [person] = rows
      if (!person) throw new Error(`nobody who can sign in has the address ${email}`)
      const { accessToken } = await makeToken(client, config, { userId: person.id, tenantSlug }).catch((error) => {
        const refused = isDatabaseError(error) && (error.code === 'BH002' || error.code === 'BH003')
        throw refused ? new Error(`${email} cannot enter ${tenantSlug}: ${error.message}`) : error
      })
      console.log(accessToken)
      return 0
    }).catch(unreachable)
  },
}

const parse = (args: string[]): { email: string; tenantSlug: string | undefined } => {
  try {
    const { values, positionals } = parseArgs({
      args,
      options: { tenant: { type: 'string' } },
      strict: true,
      allowPositionals: true,
    })
    const [email = ''] = positionals
    if (positionals.length !== 1 || email === '')
      throw new Error('token needs an e-mail address, such as owner@acme.test')
    return { email: email.toLowerCase(), tenantSlug: values.tenant }
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}
