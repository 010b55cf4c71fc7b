import type pg from 'pg'
import { until } from './jobs/stage.ts'

/**
 * Waits until what has been committed is below the horizon: other tests on this server may have older transactions open,
 * and nobody can know yet that they wrote nothing here.
 */
export async function settled(superuser: pg.Pool): Promise<void> {
  const { rows } = await superuser.query<{ xact: string }>('select pg_current_xact_id()::text as xact')
  await until(async () => {
    const now = await superuser.query<{ passed: boolean }>(
      'select pg_snapshot_xmin(pg_current_snapshot()) > $1::text::xid8 as passed',
      [rows[0]?.xact],
    )
    return now.rows[0]?.passed
  }, 120_000)
}

/**
 * Entries by the hundred thousand, as the trigger writes them: of the user `actorId`, with an address under their key,
 * of a hundred transactions. Their ids are of now, or of `at`.
 */
export async function addEntries(
  superuser: pg.Pool,
  { tenantId, actorId, count, at }: { tenantId: string; actorId: string; count: number; at?: string },
): Promise<void> {
  await superuser.query(
    `with first as (select pg_current_xact_id()::text::int8 as xact)
     insert into app.audit_log (tenant_id, id, xact, at, actor_kind, actor_id, role, request_id, address, action, table_name, row_id, new_row)
     select $1, e.id, first.xact - (n % 100), coalesce($4::timestamptz, clock_timestamp()), 'user', $2, 'owner', 'filled-' || n,
            app.conceal(sha256(k.key || uuid_send(e.id)), 'address', '192.0.2.7'), 'insert', 'projects', e.id,
            jsonb_build_object('id', e.id, 'name', 'project ' || n, 'description', repeat('as people write them ', 60), 'version', 1)
       from (select app.personal_key($2) as key) k, first, generate_series(1, $3::int) n
      cross join lateral (
        select encode(overlay(uuid_send(app.uuidv7()) placing substring(int8send((extract(epoch from coalesce($4::timestamptz, clock_timestamp())) * 1000)::int8) from 3) from 1 for 6), 'hex')::uuid as id, n as each
      ) e`,
    [tenantId, actorId, count, at ?? null],
  )
  await settled(superuser)
}
