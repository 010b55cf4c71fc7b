/** The document of the API as this source makes it: of the whole application, which needs no database for that. */
import { buildApp } from '../../src/app.ts'
import { readConfig } from '../../src/config.ts'
import { makePool } from '../../src/db/pool.ts'
import { makeLogger } from '../../src/log.ts'
import { throwawayEnvironment } from '../throwaway-app.ts'

/** Where nothing listens: nothing is asked. */
const nowhere = 'postgres://nobody@127.0.0.1:1/nothing'

export const makeDocument = async (): Promise<string> => {
  const names = ['superuser', 'owner', 'api', 'auth', 'worker', 'operator', 'jobs', 'auditor'] as const
  const urls = Object.fromEntries(names.map((name) => [name, nowhere])) as Record<(typeof names)[number], string>
  const config = readConfig(throwawayEnvironment(urls), 'server')
  const pool = () => makePool(nowhere, { ...config.pool, name: 'document', onError: () => {} })
  const pools = { api: pool(), auth: pool(), operator: pool() }
  const app = await buildApp({ config, pools, log: makeLogger(config) })
  try {
    return `${JSON.stringify(app.swagger(), null, 2)}\n`
  } finally {
    await app.close()
    await Promise.all(Object.values(pools).map((each) => each.end()))
  }
}
