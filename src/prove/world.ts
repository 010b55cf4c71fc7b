/** What every attack needs to know: who is there, with which rows, and how to look behind it. */
import pg from 'pg'
import { ask, MARK, type Outcome, setLocal, setRole } from './attempts.ts'
import { type Catalog, isTenantTable, type Relation } from './catalog.ts'
import { type ContextName, settingsAs } from './contexts.ts'
import { anotherRow, quote, type Row, type Rows, type Tenant } from './rows.ts'

export type World = {
  client: pg.ClientBase
  catalog: Catalog
  settings: Readonly<Record<ContextName, Readonly<Record<string, string>>>>
  attacker: Tenant
  victim: Tenant
  /** Its rows come later, to see who notices. */
  newcomer: Tenant
  attackerRows: Rows
  victimRows: Rows
  /** The newcomer's, as they will be: their ids are known beforehand. */
  plannedRows: Rows
  /** By table: a cursor that stands on the victim's row. */
  cursors: ReadonlyMap<number, string>
  /** What rows that are tried in vain have in their texts. */
  spare: string
  /** As whom to look which tenant was entered, and what the audit log holds. Null: as ourselves. */
  observer: { gate: string | null; log: string | null; isSuperuser: boolean }
}

/** A second row of the attacker's, of values that nobody has. */
export const ownRow = ({ catalog, attacker, attackerRows, spare }: World, relation: Relation): Row | undefined =>
  isTenantTable(relation) ? anotherRow(catalog, relation, attackerRows, attacker, spare) : undefined

/** One statement that a block cannot run, as somebody else; undone. The answer of its last part counts. */
export async function alone(
  client: pg.ClientBase,
  role: string | null,
  settings: Readonly<Record<string, string>>,
  sql: string,
): Promise<Outcome> {
  try {
    const answers = await client.query(['savepoint prove_alone', ...setLocal(settings), setRole(role), sql].join('; '))
    const last = Array.isArray(answers) ? (answers as pg.QueryResult[]).at(-1) : answers
    return { ok: true, rows: last?.rowCount ?? 0, text: null, after: null }
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error
    return { ok: false, code: error.code ?? '', message: [error.message, error.detail].filter(Boolean).join(' ') }
  } finally {
    await client.query('rollback to savepoint prove_alone; release savepoint prove_alone')
  }
}

/**
 * Cursors that stand on the rows of a tenant, opened as one who sees them: an update at a cursor names no column, so that
 * only policies for updating are asked, and touches no other row. A table whose row nobody sees has none.
 */
export async function openCursors(
  client: pg.ClientBase,
  { catalog, rows, tenant, roles }: { catalog: Catalog; rows: Rows; tenant: Tenant; roles: readonly (string | null)[] },
): Promise<Map<number, string>> {
  const wanted = catalog.relations.filter(isTenantTable).flatMap((relation) => {
    const made = rows.get(relation.oid)
    if (!made || !('row' in made) || relation.kind === 'foreign table') return []
    const name = cursorOf(relation.oid)
    return roles
      .filter((role) => role === null || relation.privileges[role]?.select.includes('tenant_id'))
      .map((role) => ({
        oid: relation.oid,
        become: setRole(role),
        open: `declare ${name} no scroll cursor for select 1 from ${relation.name} where ${keyOf(relation.primaryKey, made.row)}`,
        fetch: `fetch next in ${name}`,
      }))
  })
  const opened = await ask<number>(
    client,
    `
do $prove$
declare
  v_wanted constant jsonb := ${pg.escapeLiteral(JSON.stringify(wanted))};
  v_each   jsonb;
  v_opened int[] := '{}';
  v_rows   bigint;
begin
  ${setLocal(settingsAs(tenant)).join(';\n  ')};
  for v_each in select * from jsonb_array_elements(v_wanted) loop
    continue when (v_each ->> 'oid')::int = any (v_opened);
    begin
      execute v_each ->> 'become';
      execute v_each ->> 'open';
      execute v_each ->> 'fetch';
      get diagnostics v_rows = row_count;
      ${setRole(null)};
      if v_rows = 0 then
        raise exception 'nobody sees it';
      end if;
      v_opened := v_opened || (v_each ->> 'oid')::int;
    exception when others then
      null;
    end;
  end loop;
  raise notice '${MARK}%', array_to_json(v_opened);
end $prove$`,
  )
  return new Map(opened.map((oid) => [oid, cursorOf(oid)]))
}

const cursorOf = (oid: number): string => `prove_${oid}`

const keyOf = (primaryKey: readonly string[], row: Row): string =>
  [...new Set(['tenant_id', ...primaryKey])]
    .map((column) => `${quote(column)} = ${pg.escapeLiteral(String(row[column]))}`)
    .join(' and ')
