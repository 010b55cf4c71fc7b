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

const IN_ONE_TRANSACTION = 2_000

/**
 * Entries by the ten thousand, as the trigger writes them: of the user `actorId`, with an address under their key. Their
 * ids are of now, or of `at`.
 */
export async function addEntries(
  superuser: pg.Pool,
  { tenantId, actorId, count, at }: { tenantId: string; actorId: string; count: number; at?: string },
): Promise<void> {
  for (let added = 0; added < count; added += IN_ONE_TRANSACTION) {
    await superuser.query(
      `insert into app.audit_log (tenant_id, id, at, actor_kind, actor_id, role, request_id, address, action, table_name, row_id, new_row)
       select $1, e.id, e.at, 'user', $2, 'owner', 'filled-' || n, app.conceal(sha256(k.key || uuid_send(e.id)), 'address', '192.0.2.7'),
              'insert', 'projects', e.id,
              jsonb_build_object('id', e.id, 'name', 'project ' || n, 'description', repeat('as people write them ', 60), 'version', 1)
         from (select app.personal_key($2) as key) k
        cross join generate_series($3::int, $4::int) n
        cross join lateral (select coalesce($5::timestamptz, clock_timestamp()) as at, app.uuidv7() as id, n as each offset 0) made
        cross join lateral (
          select made.at, encode(overlay(uuid_send(made.id) placing
                   substring(int8send((extract(epoch from made.at) * 1000)::int8) from 3) from 1 for 6), 'hex')::uuid as id
        ) e`,
      [tenantId, actorId, added + 1, Math.min(count, added + IN_ONE_TRANSACTION), at ?? null],
    )
  }
  await settled(superuser)
}
