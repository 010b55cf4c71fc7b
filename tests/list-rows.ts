/** What the tables of lists hold where only their number, and what they are sorted by, counts. */
import type pg from 'pg'
import { ownSamples } from './own.ts'

/** SQL of the columns that a row has to have; `tenant_id` and its place `n` are there: rows of one place have the same of all that may be the same. */
export const listRows: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  projects: {
    name: `'project ' || n || gen_random_uuid()`,
    status: `case n % 10 when 0 then 'archived' else 'active' end`,
  },
  tasks: {
    project_id: 'md5(tenant_id::text || n % 20)::uuid',
    title: `'task ' || n`,
    status: `(array['todo', 'in_progress', 'done'])[1 + n % 3]`,
    priority: `(array['low', 'normal', 'high'])[1 + n % 3]`,
    assignee_id: 'md5(tenant_id::text || n % 15)::uuid',
    due_at: `case when n % 4 > 0 then timestamptz '2026-01-01' + n * interval '1 hour' end`,
    completed_at: 'case when n % 3 = 2 then now() end',
  },
  documents: { project_id: 'md5(tenant_id::text || n % 20)::uuid', title: `'document ' || n` },
  actors: {
    kind: `(array['user', 'service', 'device', 'external'])[1 + n % 4]`,
    external_id: `n || '-' || gen_random_uuid()`,
    display_name: `'actor ' || n`,
  },
  // a fourth of them invited
  memberships: {
    user_id: 'case when n % 4 > 0 then gen_random_uuid() end',
    role: `'role_' || n % 20`,
    status: `(array['invited', 'active', 'active', 'deactivated'])[1 + n % 4]`,
    email: `case n % 4 when 0 then n || '-' || gen_random_uuid() || '@example.com' end`,
    token_hash: `case n % 4 when 0 then sha256(uuid_send(gen_random_uuid())) end`,
    expires_at: 'case n % 4 when 0 then now() end',
  },
  api_keys: {
    name: `'key ' || n`,
    prefix: `'bhk_00000000'`,
    secret_hash: 'sha256(uuid_send(gen_random_uuid()))',
  },
  access_grants: {
    operator_id: 'md5((n % 20)::text)::uuid',
    operator_email: `'operator@example.com'`,
    reason: `'ticket ' || n`,
    access: `'read'`,
    hours: '1',
    ended_at: 'now()',
  },
  audit_log: {
    actor_kind: `'user'`,
    actor_id: 'md5(tenant_id::text || n % 15)::uuid',
    request_id: `'request ' || n`,
    action: `(array['read', 'insert', 'update', 'insert', 'update', 'delete', 'insert', 'update'])[1 + n % 8]`,
    table_name: `(array['projects', 'tasks', 'documents', 'actors', 'memberships'])[1 + n % 5]`,
    row_id: 'gen_random_uuid()',
    at: `timestamptz '2026-01-01' - n * interval '1 minute'`,
  },
  audit_seals: {
    position: '(random() * 1e15)::int8',
    batch: '((n + random()) * 1e9)::int8',
    kind: `'entries'`,
    month: `to_char(now(), 'YYYY-MM')`,
    era: '1',
    era_from: `'00000000-0000-0000-0000-000000000000'`,
    from_xact: 'n',
    to_xact: 'n',
    entries: '1',
    total: 'n + 1',
    root: 'sha256(uuid_send(gen_random_uuid()))',
    previous: 'sha256(uuid_send(gen_random_uuid()))',
    sealed_at: 'now()',
    key_id: `'test'`,
    signature: `decode(repeat('00', 68), 'hex')`,
  },
  ...Object.fromEntries(ownSamples.map(({ list, rows }) => [list.table, rows])),
}
const times = {
  created_at: `now() - n * interval '1 hour'`,
  updated_at: `timestamptz '2026-01-01' - n * interval '1 minute'`,
}
const timeless = ['audit_log', 'audit_seals']

/** From here on what is written is neither audited nor has to refer to what is there: only rows count. */
export async function disableTriggers(superuser: pg.ClientBase | pg.Pool, tables = Object.keys(listRows)) {
  for (const table of tables) await superuser.query(`alter table app.${table} disable trigger all`)
}

/** A row of each tenant for each place, where the triggers are disabled. Answers their ids. */
export async function insertRows(
  superuser: pg.ClientBase | pg.Pool,
  table: string,
  tenants: readonly string[],
  places: readonly number[],
): Promise<string[]> {
  const values = { tenant_id: 't.tenant_id', ...listRows[table], ...(timeless.includes(table) ? {} : times) }
  const { rows } = await superuser.query<{ id: string }>(
    `insert into app.${table} (${Object.keys(values)})
     select ${Object.values(values)} from unnest($1::uuid[]) t (tenant_id), unnest($2::int[]) n returning id`,
    [tenants, places],
  )
  return rows.map(({ id }) => id)
}
