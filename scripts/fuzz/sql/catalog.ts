/** Everything there is to aim at, as the catalog has it: whatever a later migration adds is aimed at too. */
import type pg from 'pg'

export type Column = {
  name: string
  type: string
  insertable: boolean
  updatable: boolean
  /** A row needs a value, and has none by itself. */
  required: boolean
}

export type Relation = {
  /** As it is written in a statement, with its schema. */
  name: string
  kind: 'table' | 'view' | 'partition' | 'materialised view' | 'sequence' | 'foreign table'
  /** It has rows of tenants, or shows such rows. */
  walled: boolean
  ofSystem: boolean
  readable: boolean
  columns: Column[]
}

export type Routine = {
  name: string
  kind: 'function' | 'procedure' | 'aggregate' | 'window'
  ofSystem: boolean
  /** Its arguments' types. */
  takes: string[]
}

export type Catalog = {
  relations: Relation[]
  routines: Routine[]
  settings: string[]
  roles: string[]
  /** What permissions are made of: `projects`, `read`. */
  terms: string[]
}

const role = 'app_api'

export const readCatalog = async (superuser: pg.Client): Promise<Catalog> => {
  const rows = async <R extends pg.QueryResultRow>(text: string) => (await superuser.query<R>(text)).rows
  const relations = await rows<Relation>(`
    select format('%I.%I', n.nspname, c.relname) as name,
           case when c.relispartition then 'partition' else
             case c.relkind when 'v' then 'view' when 'm' then 'materialised view' when 'S' then 'sequence'
                            when 'f' then 'foreign table' else 'table' end end as kind,
           n.nspname !~ '^(pg_|information_schema$)' and
             exists (select from pg_attribute t where t.attrelid = c.oid and t.attname = 'tenant_id') as walled,
           n.nspname ~ '^(pg_|information_schema$)' as "ofSystem",
           case when c.relkind = 'S' then has_sequence_privilege('${role}', c.oid, 'select')
                else has_table_privilege('${role}', c.oid, 'select') or has_any_column_privilege('${role}', c.oid, 'select')
           end as readable,
           array(select jsonb_build_object('name', quote_ident(a.attname), 'type', format_type(a.atttypid, null),
                          'insertable', c.relkind <> 'S' and has_column_privilege('${role}', c.oid, a.attnum, 'insert'),
                          'required', a.attnotnull and not a.atthasdef,
                          'updatable', c.relkind <> 'S' and has_column_privilege('${role}', c.oid, a.attnum, 'update'))
                   from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                  order by a.attnum) as columns
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and n.nspname !~ '^pg_(temp|toast)'
     order by 1`)
  const routines = await rows<Routine>(`
    select format('%I.%I', n.nspname, p.proname) as name,
           case p.prokind when 'p' then 'procedure' when 'a' then 'aggregate' when 'w' then 'window' else 'function' end as kind,
           n.nspname = 'pg_catalog' as "ofSystem",
           array(select format_type(t, null) from unnest(p.proargtypes) with ordinality as a (t, n) order by n) as takes
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     where has_function_privilege('${role}', p.oid, 'execute') or n.nspname in ('app', 'audit')
     order by 1, p.oid`)
  const settings = await rows<{ name: string }>(
    `select name from pg_settings where context in ('user', 'superuser') and name !~ 'timeout|interval' order by 1`,
  )
  const roles = await rows<{ rolname: string }>(`select rolname from pg_roles where rolname !~ '^pg_' order by 1`)
  const terms = await rows<{ term: string }>(
    `select distinct unnest(string_to_array(name, ':')) as term from app.permissions order by 1`,
  )
  return {
    relations,
    routines,
    settings: settings.map(({ name }) => name),
    roles: roles.map(({ rolname }) => rolname),
    terms: terms.map(({ term }) => term),
  }
}
