/**
 * What can be attacked, from pg_catalog alone: relations with their columns, keys and privileges, functions, roles. A
 * table that is added tomorrow is in it without being named. System schemas and what extensions brought along are not.
 */
import type pg from 'pg'

export type Column = {
  name: string
  /** As format_type writes it, and of a domain the type below it, whose length is `size` where it has one. */
  type: string
  base: string
  size: number | null
  typtype: string
  isArray: boolean
  labels: string[] | null
  /** The checks of its domain. */
  domainChecks: string[]
  notNull: boolean
  hasDefault: boolean
  generated: boolean
  /** The column that this one is generated from, where it is a plain copy. */
  copyOf: string | null
}

export type Check = { columns: string[]; expression: string; definition: string }

/** Keys are named as laws name them: `projects_name_key on app.projects`. */
export type ForeignKey = { name: string; columns: string[]; target: number; targetColumns: string[]; onDelete: string }

export type Unique = { name: string; columns: (string | null)[] }

export type RelationKind = 'table' | 'partition' | 'foreign table' | 'view' | 'materialised view' | 'sequence'

/** By role: the columns it may select, insert and update, and whether it may delete. A role that may nothing is left out. */
export type Privileges = Readonly<
  Record<string, { select: string[]; insert: string[]; update: string[]; delete: boolean }>
>

export type Relation = {
  oid: number
  /** Quoted, with its schema. */
  name: string
  kind: RelationKind
  owner: string
  columns: Column[]
  checks: Check[]
  foreignKeys: ForeignKey[]
  uniques: Unique[]
  primaryKey: string[]
  /** Of a partition: the table it belongs to, the columns it is cut by, and the first value of each that it takes. */
  parent: number | null
  cutBy: string[] | null
  bound: string | null
  /** Of a view: tables of tenants that it reads, directly or through others. */
  reads: string[]
  privileges: Privileges
}

export type Routine = {
  /** `app.can(text)`, quoted: what GRANT takes. */
  signature: string
  /** `app.can(p_permission text)`: as laws name it. */
  identity: string
  /** Quoted, with its schema, without arguments. */
  name: string
  isProcedure: boolean
  arguments: { name: string | null; type: string }[]
  isVariadic: boolean
  /** Roles that may call it. */
  callers: string[]
}

export type Role = {
  name: string
  /** One of those that processes log in as: its name begins with app_, and it may connect here. */
  isLogin: boolean
  isSuperuser: boolean
  /** Roles that it may become with SET ROLE. */
  becomes: string[]
}

export type Catalog = {
  relations: Relation[]
  routines: Routine[]
  roles: Role[]
  schemas: string[]
  /** Settings of the application that functions and policies read: what somebody would set by hand. */
  settings: string[]
}

const ours = (schema: string): string => `${schema} !~ '^pg_' and ${schema} <> 'information_schema'`
const notOfAnExtension = (catalog: string, oid: string): string =>
  `not exists (select from pg_depend e where e.classid = '${catalog}'::regclass and e.objid = ${oid} and e.deptype = 'e')`

/** Reads it with nothing in the search path, so that every name comes with its schema. */
export async function readCatalog(client: pg.ClientBase): Promise<Catalog> {
  const roles = (await client.query<Role>(rolesQuery)).rows
  const relations = (await client.query<Relation>(relationsQuery)).rows
  const privileges = (await client.query<PrivilegeRow>(privilegesQuery)).rows
  const reads = (await client.query<{ oid: number; reads: string[] }>(readsQuery)).rows
  const routines = (await client.query<Routine>(routinesQuery)).rows
  const rest = (await client.query<{ schemas: string[]; settings: string[] }>(restQuery)).rows[0]

  const byRelation = new Map<number, Record<string, Privileges[string]>>()
  for (const { oid, role, ...granted } of privileges) {
    byRelation.set(oid, { ...byRelation.get(oid), [role]: granted })
  }
  const readBy = new Map(reads.map(({ oid, reads }) => [oid, reads]))
  return {
    relations: relations.map((relation) => ({
      ...relation,
      privileges: byRelation.get(relation.oid) ?? {},
      reads: readBy.get(relation.oid) ?? [],
    })),
    routines,
    roles,
    schemas: rest?.schemas ?? [],
    settings: rest?.settings ?? [],
  }
}

type PrivilegeRow = { oid: number; role: string } & Privileges[string]

export const isTenantTable = ({ kind, columns }: Relation): boolean =>
  (kind === 'table' || kind === 'partition' || kind === 'foreign table') &&
  columns.some(({ name }) => name === 'tenant_id')

export const isTable = ({ kind }: Relation): boolean =>
  kind === 'table' || kind === 'partition' || kind === 'foreign table'

// a superuser is a member of everything, and needs to become nobody
const rolesQuery = `
  select r.rolname::text as name, r.rolsuper as "isSuperuser",
         r.rolcanlogin and r.rolname like 'app\\_%'
           and r.oid in (select a.grantee from pg_database d, aclexplode(d.datacl) a where d.datname = current_database()) as "isLogin",
         coalesce((select array_agg(g.rolname::text order by g.rolname) from pg_roles g
                    where not r.rolsuper and r.rolcanlogin and g.oid <> r.oid and pg_has_role(r.oid, g.oid, 'member')), '{}') as becomes
    from pg_roles r
   where r.rolname !~ '^pg_'
   order by r.rolname`

const relationsQuery = `
  select c.oid::int, format('%I.%I', n.nspname, c.relname) as name, pg_get_userbyid(c.relowner)::text as owner,
         case when c.relispartition then 'partition'
              else case c.relkind when 'f' then 'foreign table' when 'v' then 'view' when 'm' then 'materialised view' when 'S' then 'sequence'
                                  else 'table' end end as kind,
         coalesce((select json_agg(json_build_object(
                     'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'base', format_type(b.oid, null),
                     'size', case when b.typname in ('varchar', 'bpchar', 'bit', 'varbit') and b.mod > 0
                                  then b.mod - case when b.typname in ('varchar', 'bpchar') then 4 else 0 end end,
                     'typtype', b.typtype, 'isArray', b.typcategory = 'A',
                     'labels', (select json_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = b.oid),
                     'domainChecks', (select coalesce(json_agg(pg_get_constraintdef(k.oid)), '[]') from pg_constraint k where k.contypid = t.oid and k.contype = 'c'),
                     'notNull', a.attnotnull or t.typnotnull, 'hasDefault', d.oid is not null or a.attidentity <> '',
                     'generated', a.attgenerated <> '',
                     'copyOf', case when a.attgenerated <> ''
                                    then (select o.attname from pg_attribute o
                                           where o.attrelid = c.oid and o.attnum > 0 and quote_ident(o.attname) = pg_get_expr(d.adbin, d.adrelid)) end)
                     order by a.attnum)
                     from pg_attribute a
                     join pg_type t on t.oid = a.atttypid
                     cross join lateral (select x.oid, x.typname, x.typtype, x.typcategory,
                                                case when t.typtype = 'd' then t.typtypmod else a.atttypmod end as mod
                                           from pg_type x where x.oid = case when t.typtype = 'd' then t.typbasetype else t.oid end) b
                     left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
                    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '[]') as columns,
         coalesce((select json_agg(json_build_object(
                     'columns', (select coalesce(json_agg(a.attname), '[]') from pg_attribute a where a.attrelid = k.conrelid and a.attnum = any (k.conkey)),
                     'expression', pg_get_expr(k.conbin, k.conrelid), 'definition', pg_get_constraintdef(k.oid)))
                     from pg_constraint k where k.conrelid = c.oid and k.contype = 'c'), '[]') as checks,
         coalesce((select json_agg(json_build_object(
                     'name', format('%I on %I.%I', k.conname, n.nspname, c.relname), 'target', k.confrelid::int,
                     'columns', (select json_agg(a.attname order by u.place) from unnest(k.conkey) with ordinality u (attnum, place)
                                   join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.attnum),
                     'targetColumns', (select json_agg(a.attname order by u.place) from unnest(k.confkey) with ordinality u (attnum, place)
                                         join pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.attnum),
                     'onDelete', case k.confdeltype when 'c' then 'cascade' when 'n' then 'set null' when 'd' then 'set default' else 'no action' end)
                     order by k.conname)
                     from pg_constraint k where k.conrelid = c.oid and k.contype = 'f' and k.conparentid = 0), '[]') as "foreignKeys",
         coalesce((select json_agg(json_build_object(
                     'name', format('%I on %I.%I', i.relname, n.nspname, c.relname),
                     'columns', (select json_agg(a.attname order by u.place) from unnest(x.indkey::int2[]) with ordinality u (attnum, place)
                                   left join pg_attribute a on a.attrelid = c.oid and a.attnum = u.attnum and u.attnum > 0
                                  where u.place <= x.indnkeyatts))
                     order by i.relname)
                     from pg_index x join pg_class i on i.oid = x.indexrelid
                    where x.indrelid = c.oid and (x.indisunique or x.indisexclusion) and x.indisvalid), '[]') as uniques,
         coalesce((select json_agg(a.attname) from pg_index x join pg_attribute a on a.attrelid = c.oid and a.attnum = any (x.indkey::int2[])
                    where x.indrelid = c.oid and x.indisprimary), '[]') as "primaryKey",
         (select i.inhparent::int from pg_inherits i where i.inhrelid = c.oid and c.relispartition) as parent,
         (select json_agg(a.attname order by u.place)
            from pg_inherits i
            join pg_partitioned_table p on p.partrelid = i.inhparent
            cross join unnest(p.partattrs::int2[]) with ordinality u (attnum, place)
            left join pg_attribute a on a.attrelid = i.inhparent and a.attnum = u.attnum
           where i.inhrelid = c.oid and c.relispartition) as "cutBy",
         pg_get_expr(c.relpartbound, c.oid) as bound
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p', 'f', 'v', 'm', 'S') and ${ours('n.nspname')} and ${notOfAnExtension('pg_class', 'c.oid')}
   order by 2`

const privilegesQuery = `
  select c.oid::int, r.rolname::text as role, may.*
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_roles r on r.rolname like 'app\\_%' or r.oid = c.relowner
                    or exists (select from pg_roles l where l.rolcanlogin and not l.rolsuper and l.rolname like 'app\\_%' and pg_has_role(l.oid, r.oid, 'member'))
    cross join lateral (
      select coalesce(array_agg(a.attname::text order by a.attnum) filter (where has_column_privilege(r.oid, c.oid, a.attnum, 'select')), '{}') as select,
             coalesce(array_agg(a.attname::text order by a.attnum) filter (where has_column_privilege(r.oid, c.oid, a.attnum, 'insert')), '{}') as insert,
             coalesce(array_agg(a.attname::text order by a.attnum) filter (where has_column_privilege(r.oid, c.oid, a.attnum, 'update')), '{}') as update,
             has_table_privilege(r.oid, c.oid, 'delete') as delete
        from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) may
   where c.relkind in ('r', 'p', 'f', 'v', 'm') and ${ours('n.nspname')} and ${notOfAnExtension('pg_class', 'c.oid')}
     and has_schema_privilege(r.oid, n.oid, 'usage')
     and (has_any_column_privilege(r.oid, c.oid, 'select, insert, update') or has_table_privilege(r.oid, c.oid, 'delete'))`

const readsQuery = `
  with recursive reads as (
    select distinct w.ev_class as oid, d.refobjid
      from pg_rewrite w
      join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_class'::regclass and d.refobjid <> w.ev_class
    union
    select r.oid, d.refobjid
      from reads r
      join pg_rewrite w on w.ev_class = r.refobjid
      join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_class'::regclass and d.refobjid <> w.ev_class
  )
  select r.oid::int, array_agg(format('%I.%I', n.nspname, c.relname) order by 1) as reads
    from reads r
    join pg_class c on c.oid = r.refobjid and c.relkind in ('r', 'p', 'f')
    join pg_namespace n on n.oid = c.relnamespace
   where exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
   group by r.oid`

// aggregates run functions that are in the list themselves; trigger functions cannot be called
const routinesQuery = `
  select format('%I.%I(%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes)) as signature, format('%I.%I', n.nspname, p.proname) as name,
         format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as identity,
         p.prokind = 'p' as "isProcedure", p.provariadic <> 0 as "isVariadic",
         (select coalesce(json_agg(r.rolname), '[]') from pg_roles r
           where has_schema_privilege(r.oid, n.oid, 'usage') and has_function_privilege(r.oid, p.oid, 'execute')) as callers,
         coalesce((select json_agg(json_build_object('name', nullif(names.name, ''), 'type', format_type(t.type, null)) order by t.place)
                     from unnest(p.proargtypes::oid[]) with ordinality t (type, place)
                     left join (select u.name, row_number() over (order by u.place) as place
                                  from unnest(p.proargnames) with ordinality u (name, place)
                                 where coalesce(p.proargmodes[u.place], 'i') in ('i', 'b', 'v')) names on names.place = t.place), '[]') as arguments
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
   where p.prokind in ('f', 'p') and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype, 'internal'::regtype)
     and not 'internal'::regtype::oid = any (p.proargtypes::oid[])
     and ${ours('n.nspname')} and ${notOfAnExtension('pg_proc', 'p.oid')}
   order by 1`

const restQuery = `
  select (select array_agg(quote_ident(n.nspname) order by n.nspname) from pg_namespace n where ${ours('n.nspname')}) as schemas,
         (select coalesce(array_agg(distinct found[1]), '{}')
            from (select p.prosrc as text from pg_proc p join pg_namespace n on n.oid = p.pronamespace where ${ours('n.nspname')}
                  union all
                  select concat_ws(' ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) from pg_policy) sources
            cross join regexp_matches(sources.text, 'current_setting\\(\\s*''([a-z_][a-z0-9_]*\\.[a-z0-9_]+)''', 'gi') found) as settings`
