/** What a piece of work makes the server do, counted by itself: unlike times, the counts of two pieces can be compared exactly. */
import type pg from 'pg'

export type Work = Record<string, string | number>[]

/** Of each table of ours, within the transaction that is open: rows and indexes that were looked at, rows that were written. */
export const workOf = async (client: pg.Client, work: () => Promise<unknown>): Promise<Work> => {
  const before = await counters(client)
  await work()
  const after = await counters(client)
  return after.map((row, at) => difference(row, before[at] ?? {}))
}

const counters = async (client: pg.Client): Promise<Work> => {
  const { rows } = await client.query(
    `select relname, seq_scan::int, seq_tup_read::int, coalesce(idx_scan, 0)::int as idx_scan,
            coalesce(idx_tup_fetch, 0)::int as idx_tup_fetch, n_tup_ins::int, n_tup_upd::int, n_tup_del::int
       from pg_stat_xact_all_tables where schemaname = 'app' order by relname`,
  )
  return rows
}

const difference = (after: Work[number], before: Work[number]) =>
  Object.fromEntries(
    Object.entries(after).map(([name, value]) => [
      name,
      typeof value === 'number' ? value - Number(before[name] ?? 0) : value,
    ]),
  )

/** Three hundred more tenants, each with its owner, so that the planner has a choice. */
export const fill = async (client: pg.Client): Promise<void> => {
  await client.query(`
    do $$
    declare v_tenant uuid; v_user uuid;
    begin
      for n in 1..300 loop
        v_tenant := app.uuidv7(); v_user := app.uuidv7();
        perform app.seal(v_tenant, 'system', null, 'system', null, 'fill', null);
        insert into app.tenants (id, slug, name) values (v_tenant, 'filler-' || n, 'Filler');
        insert into app.users (id, email, name) values (v_user, 'filler' || n || '@example.com', 'Filler');
        insert into app.memberships (user_id, role) values (v_user, 'owner');
      end loop;
    end $$`)
  await client.query('vacuum analyze app.tenants, app.memberships, app.users, app.sessions')
}
