/** As whom one may act: a superuser as everybody; the owner who migrated as the roles that are granted to it. */
import pg from 'pg'

export type Access = {
  /** The login, which is not who it acts as. */
  login: string
  isSuperuser: boolean
  /** Row security binds it not: it sees what is there. */
  seesAll: boolean
  can(role: string): boolean
  /** By role: why not. */
  refusals: ReadonlyMap<string, string>
}

/**
 * Takes what can be taken inside the transaction: from 16 on, having made a role is enough to be granted it, but not to
 * act as it; before, CREATEROLE is.
 */
export async function gainAccess(client: pg.ClientBase, roles: readonly string[]): Promise<Access> {
  const { rows } = await client.query<{ login: string; super: boolean; sees: boolean; version: number }>(
    `select rolname::text as login, rolsuper as super, rolsuper or rolbypassrls as sees, current_setting('server_version_num')::int as version
       from pg_roles where rolname = session_user`,
  )
  const { login = '', super: isSuperuser = false, sees: seesAll = false, version = 0 } = rows[0] ?? {}
  const refusals = new Map<string, string>()
  if (!isSuperuser) {
    const option = version >= 160_000 ? 'set' : 'member'
    for (const role of roles) {
      const { rows } = await client.query<{ may: boolean }>('select pg_has_role(session_user, $1, $2) as may', [
        role,
        option,
      ])
      if (rows[0]?.may) continue
      const reason = await grantToSelf(client, login, role, version)
      if (reason) refusals.set(role, reason)
    }
  }
  return { login, isSuperuser, seesAll, can: (role) => !refusals.has(role), refusals }
}

async function grantToSelf(
  client: pg.ClientBase,
  login: string,
  role: string,
  version: number,
): Promise<string | undefined> {
  const options = version >= 160_000 ? ' with inherit false, set true' : ''
  await client.query('savepoint prove_access')
  try {
    await client.query(`grant ${pg.escapeIdentifier(role)} to ${pg.escapeIdentifier(login)}${options}`)
    await client.query('release savepoint prove_access')
    return undefined
  } catch (error) {
    await client.query('rollback to savepoint prove_access; release savepoint prove_access')
    if (!(error instanceof pg.DatabaseError)) throw error
    // our own first connection, most likely, which has granted it to itself and not committed that
    return error.code === '55P03' ? 'it is being granted in another transaction' : error.message
  }
}
