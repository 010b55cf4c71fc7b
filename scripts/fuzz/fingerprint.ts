/** Whether a row of globex has changed: asked behind the wall, cheap enough to be asked often. */
import type pg from 'pg'

export type Fingerprint = {
  /** The tables that are not as they were when this was made. */
  changed(): Promise<string[]>
}

type Options = {
  tenantId: string
  /**
   * Which rows count of tables without tenants: those that name globex or one of its people; or all that name no other
   * tenant or one of its people, where nobody can come to be meanwhile.
   */
  beyond: 'globex’s' | 'all but other tenants’'
}

/**
 * Written to by design when somebody is refused, about whoever was named: no change of a row, and what it says is seen by
 * auditors alone.
 */
const EXEMPT = ['app.security_log']

export const takeFingerprint = async (superuser: pg.Client, { tenantId, beyond }: Options): Promise<Fingerprint> => {
  const { rows: tables } = await superuser.query<{ name: string; walled: boolean }>(`
    select format('%I.%I', n.nspname, c.relname) as name,
           exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id') as walled
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p') and not c.relispartition and n.nspname !~ '^(pg_|information_schema$)' order by 1`)
  const { rows: people } = await superuser.query<{ tenant_id: string; user_id: string }>(
    'select tenant_id, user_id from app.memberships where user_id is not null',
  )
  const names = (isMeant: (tenant: string) => boolean) =>
    [...new Set(people.filter((one) => isMeant(one.tenant_id)).flatMap((one) => [one.tenant_id, one.user_id]))]
      .map((name) => `'${name}'`)
      .join(', ')
  const naming = (some: string) => `exists (select from unnest(array[${some}]) name where strpos(t::text, name) > 0)`
  const where = (walled: boolean) => {
    if (walled) return `t.tenant_id = '${tenantId}'`
    if (beyond === 'globex’s') return naming(names((tenant) => tenant === tenantId))
    return `not ${naming(names((tenant) => tenant !== tenantId))}`
  }
  const text = tables
    .filter(({ name }) => !EXEMPT.includes(name))
    .map(
      ({ name, walled }) =>
        `select '${name.replaceAll("'", "''")}' as name, md5(coalesce(string_agg(md5(t::text), '' order by md5(t::text)), '')) as print
           from ${name} t where ${where(walled)}`,
    )
    .join(' union all ')
  const take = async () => {
    const { rows } = await superuser.query<{ name: string; print: string }>({ name: 'fingerprint', text })
    return new Map(rows.map(({ name, print }) => [name, print]))
  }

  const before = await take()
  return {
    async changed() {
      const now = await take()
      return [...before].filter(([name, print]) => now.get(name) !== print).map(([name]) => name)
    },
  }
}
