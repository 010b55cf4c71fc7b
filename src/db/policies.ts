/**
 * Who may do what in a database, as data (sql/policies.json): roles, settings, memberships, owners, row security,
 * policies, functions, triggers, grants. It is the same whatever the database is called, whoever migrated it, in
 * whichever month, on PostgreSQL 15 to 18, and whatever the settings of the one who asks. Columns, keys and indexes are
 * in sql/schema.sql.
 *
 * What it looks at: the schemas of the product and `public`, and any other schema in which a role of ours (app_…) owns
 * something or was granted something, or that has a table with a column tenant_id. Of the system and of extensions, what
 * PUBLIC or a role of ours was granted beyond what they came with.
 */
import type pg from 'pg'
import { inside } from './check.ts'

export type Value = string | number | boolean | readonly string[]

/** One role, one policy, one privilege of one grantee: what tells it from others of its kind comes first. */
export type Entry = Readonly<Record<string, Value>>

export type Snapshot = Readonly<Record<string, readonly Entry[]>>

/** The kinds, in the order of the file, each with the fields that tell its entries apart. */
export const identities: Readonly<Record<string, readonly string[]>> = {
  database: ['name'],
  roles: ['name'],
  settings: ['of', 'in', 'name'],
  memberships: ['role', 'of'],
  schemas: ['name'],
  relations: ['name'],
  types: ['name'],
  functions: ['name'],
  policies: ['on', 'name'],
  triggers: ['on', 'name'],
  rules: ['on', 'name'],
  grants: ['on', 'to', 'may'],
  default_privileges: ['of', 'on', 'in', 'to', 'may'],
}

/** Takes it as any role, from the catalog alone, at one moment; in the caller's transaction when there is one. */
export const takeSnapshot = (client: pg.ClientBase): Promise<Snapshot> =>
  inside(client, settings, async () => {
    const parts = Object.entries(queries).map(
      ([kind, query]) => `select '${kind}' as kind, entry from (${query}) ${kind}`,
    )
    const { rows } = await client.query<{ kind: string; entry: Entry }>(`with ${common} ${parts.join(' union all ')}`)
    const found = Object.groupBy(rows, ({ kind }) => kind)
    const entries = Object.entries(found).map(([kind, rows = []]) => [kind, rows.map(({ entry }) => entry)] as const)
    return arrange(joinMonths(Object.fromEntries(entries)))
  })

/** How expressions and constants are printed depends on these. */
const settings = [
  'set local search_path = pg_catalog',
  'set local quote_all_identifiers = off',
  `set local datestyle = 'ISO, YMD'`,
  `set local timezone = 'UTC'`,
  `set local intervalstyle = 'postgres'`,
  'set local extra_float_digits = 1',
  `set local bytea_output = 'hex'`,
  'set local jit = off',
]

// Order, and text

/** Kinds and entries in their order, each entry once; of a kind that is not known, only when there are any. */
export const arrange = (snapshot: Snapshot): Snapshot => {
  const others = Object.keys(snapshot).filter((kind) => !(kind in identities) && snapshot[kind]?.length)
  const kinds = [...Object.keys(identities), ...others.sort()]
  return Object.fromEntries(
    kinds.map((kind) => {
      const byName = new Map((snapshot[kind] ?? []).map((entry) => [nameOf(kind, entry), entry]))
      return [kind, [...byName].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry)]
    }),
  )
}

/** What an entry is called among those of its kind; of a kind that is not known, all of it. */
export const nameOf = (kind: string, entry: Entry): string =>
  JSON.stringify(identities[kind]?.map((field) => entry[field] ?? '') ?? entry)

const FORMAT = 1

/** A line for each entry, so that a review shows what came and what went. */
export const printSnapshot = (snapshot: Snapshot): string => {
  const sections = Object.entries(arrange(snapshot)).map(([kind, entries]) => {
    const lines = entries.map((entry) => `\n    ${printEntry(entry)}`)
    return `  ${JSON.stringify(kind)}: [${lines.join(',')}${lines.length > 0 ? '\n  ' : ''}]`
  })
  return `{\n${[`  "format": ${FORMAT}`, ...sections].join(',\n')}\n}\n`
}

const printEntry = (entry: Entry): string => {
  const fields = Object.entries(entry).map(([name, value]) => {
    const text = Array.isArray(value)
      ? `[${value.map((one) => JSON.stringify(one)).join(', ')}]`
      : JSON.stringify(value)
    return `${JSON.stringify(name)}: ${text}`
  })
  return `{ ${fields.join(', ')} }`
}

/** Reads what `printSnapshot` wrote. Throws with what is wrong, for the one who named the file. */
export const readSnapshot = (text: string): Snapshot => {
  const { format, ...snapshot } = parseObject(text)
  if (format !== FORMAT) throw new Error(`it is of format ${JSON.stringify(format)}, and this code knows ${FORMAT}`)
  for (const [kind, entries] of Object.entries(snapshot)) {
    if (!isName(kind)) throw new Error('it is no snapshot')
    if (!Array.isArray(entries) || !entries.every(isEntry)) throw new Error(`its ${kind} are no list of entries`)
    const names = new Set(entries.map((entry) => nameOf(kind, entry)))
    if (names.size < entries.length) throw new Error(`its ${kind} have two entries for the same thing`)
  }
  return arrange(snapshot as Snapshot)
}

const parseObject = (text: string): Record<string, unknown> => {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  } catch {
    // said below: what the parser says is about characters
  }
  throw new Error('it is no snapshot')
}

const isEntry = (value: unknown): value is Entry =>
  typeof value === 'object' &&
  value !== null &&
  !Array.isArray(value) &&
  Object.entries(value).every(([name, one]) => isName(name) && isValue(one))

/** Of a kind or a field; `constructor` and its like are every object's. */
const isName = (name: string): boolean => /^[a-z_]+$/.test(name) && !(name in {})

const isValue = (value: unknown): value is Value =>
  ['string', 'number', 'boolean'].includes(typeof value) ||
  (Array.isArray(value) && value.every((one) => typeof one === 'string'))

// Partitions that are made by time

/** `audit.audit_log_*` of `audit.audit_log_2026_03`; undefined when no month ends the name. */
export const familyOfMonth = (name: Value | undefined): string | undefined => {
  const [, stem] = /^(.+)_\d{4}_\d{2}$/.exec(String(name)) ?? []
  return stem === undefined ? undefined : `${stem}_*`
}

/**
 * What all partitions of a table by month have alike stands there once, under `…_*`; what some of them have otherwise
 * stands there for each of them.
 */
const joinMonths = (found: Record<string, Entry[]>): Record<string, Entry[]> => {
  const families = new Map<string, { family: string; members: Set<string> }>()
  const byFamily = new Map<string, Set<string>>()
  for (const { name, part_of } of found.relations ?? []) {
    const family = familyOfMonth(name)
    if (family === undefined || part_of === undefined) continue
    const members = byFamily.get(family) ?? new Set()
    byFamily.set(family, members.add(String(name)))
    families.set(String(name), { family, members })
  }

  const join = (kind: string, entries: Entry[]): Entry[] => {
    const [field = ''] = identities[kind] ?? []
    const familyOf = (entry: Entry) => families.get(String(entry[field]))
    const alike = new Map<string, Set<unknown>>()
    const renamed = (entry: Entry): Entry => ({ ...entry, [field]: familyOf(entry)?.family ?? '' })
    for (const entry of entries) {
      if (!familyOf(entry)) continue
      const text = JSON.stringify(renamed(entry))
      alike.set(text, (alike.get(text) ?? new Set()).add(entry[field]))
    }
    return entries.map((entry) => {
      const all = familyOf(entry)?.members.size
      return all !== undefined && alike.get(JSON.stringify(renamed(entry)))?.size === all ? renamed(entry) : entry
    })
  }
  return Object.fromEntries(Object.entries(found).map(([kind, entries]) => [kind, join(kind, entries)]))
}

// The catalog. Every query answers entries, as json, whose fields keep their order.

/**
 * `who`: roles by name. The database's owner and that of the schema migrations are who migrated, under whatever name.
 * `ours`: the roles of the product that have to do with this database. `place`: the schemas that are looked at.
 */
const common = `
  this (oid, owner) as (select oid, datdba from pg_database where datname = current_database()),
  who (oid, name, is_ours) as (
    select 0::oid, 'public', false
    union all
    select r.oid,
           case when r.rolname like 'app\\_%' then quote_ident(r.rolname)
                when r.oid in (select owner from this union select nspowner from pg_namespace where nspname = 'migrations') then '(who migrates)'
                else quote_ident(r.rolname) end,
           r.rolname like 'app\\_%'
      from pg_roles r
  ),
  held (role, class, object) as (
    select d.refobjid, d.classid, d.objid
      from pg_shdepend d join who w on w.oid = d.refobjid and w.is_ours
     where d.refclassid = 'pg_authid'::regclass
       and (d.dbid = (select oid from this) or d.dbid = 0 and d.classid = 'pg_database'::regclass and d.objid = (select oid from this))
  ),
  ours as (select r.* from pg_roles r where r.oid in (select role from held)),
  place (oid, name) as (
    select n.oid, quote_ident(n.nspname)
      from pg_namespace n
     where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
       and (n.nspname in ('app', 'audit', 'pgboss', 'migrations', 'public')
            or exists (select from aclexplode(n.nspacl) a where a.grantee = 0)
            or n.oid in (select object from held where class = 'pg_namespace'::regclass)
            or n.oid in (select relnamespace from pg_class where oid in (select object from held where class = 'pg_class'::regclass))
            or n.oid in (select pronamespace from pg_proc where oid in (select object from held where class = 'pg_proc'::regclass))
            or n.oid in (select typnamespace from pg_type where oid in (select object from held where class = 'pg_type'::regclass))
            or n.oid in (select c.relnamespace from pg_class c join pg_attribute a on a.attrelid = c.oid
                          where c.relkind in ('r', 'p', 'f') and a.attname = 'tenant_id' and not a.attisdropped))
  ),
  extension (class, object) as (select classid, objid from pg_depend where deptype = 'e'),
  relation as (
    select c.*, format('%s.%I', p.name, c.relname) as name
      from pg_class c join place p on p.oid = c.relnamespace
     where c.relkind in ('r', 'p', 'f', 'v', 'm', 'S')
       and not exists (select from extension e where e.class = 'pg_class'::regclass and e.object = c.oid)
  ),
  routine as (
    select f.*, format('%s.%I(%s)', p.name, f.proname, pg_get_function_identity_arguments(f.oid)) as name
      from pg_proc f join place p on p.oid = f.pronamespace
     where not exists (select from extension e where e.class = 'pg_proc'::regclass and e.object = f.oid)
  ),
  -- those that have privileges of their own: not the rows of tables, arrays and multiranges
  standalone as (
    select t.*, format('%s.%I', p.name, t.typname) as name
      from pg_type t join place p on p.oid = t.typnamespace
     where (t.typtype in ('e', 'd', 'r') or t.typtype = 'b' and t.typelem = 0
            or t.typtype = 'c' and exists (select from pg_class c where c.oid = t.typrelid and c.relkind = 'c'))
       and not exists (select from extension e where e.class = 'pg_type'::regclass and e.object = t.oid)
  )`

const database = `
  select json_build_object('name', 'database', 'owner', w.name) as entry from this join who w on w.oid = this.owner`

const roles = `
  select json_build_object(
           'name', w.name, 'login', r.rolcanlogin, 'inherit', r.rolinherit, 'superuser', r.rolsuper, 'bypassrls', r.rolbypassrls,
           'createrole', r.rolcreaterole, 'createdb', r.rolcreatedb, 'replication', r.rolreplication,
           'connection_limit', r.rolconnlimit) as entry
    from ours r join who w on w.oid = r.oid`

/** But for what sql/bootstrap.sql sets, which depends on who migrated: sql/hardening looks at that. */
const roleSettings = `
  select json_build_object('of', case when s.setrole = 0 then 'everybody' else w.name end,
                           'in', case when s.setdatabase = 0 then 'every database' else 'this database' end,
                           'name', split_part(setting, '=', 1), 'value', substr(setting, strpos(setting, '=') + 1)) as entry
    from pg_db_role_setting s
    cross join unnest(s.setconfig) setting
    left join who w on w.oid = s.setrole
   where (s.setrole = 0 or s.setrole in (select oid from ours)) and s.setdatabase in (0, (select oid from this))
     and not (s.setdatabase = 0 and s.setrole in (select oid from ours)
              and setting in ('track_activities=off', 'log_parameter_max_length=0', 'log_parameter_max_length_on_error=0'))`

/**
 * Of our roles in any other, and of others in ours. Superusers and those with CREATEROLE administer roles anyway, the one
 * who migrates among them; and who cannot connect here is none of our business. Before PostgreSQL 16 a membership was
 * inherited where its member inherits, and could always be set.
 */
const memberships = `
  select json_build_object('role', min(w.name), 'of', min(g.name), 'with', array_remove(array[
           case when bool_or(m.admin_option) then 'admin' end,
           case when bool_or(coalesce((to_jsonb(m) ->> 'inherit_option')::bool, r.rolinherit)) then 'inherit' end,
           case when bool_or(coalesce((to_jsonb(m) ->> 'set_option')::bool, true)) then 'set' end], null)) as entry
    from pg_auth_members m
    join pg_roles r on r.oid = m.member
    join who w on w.oid = m.member
    join who g on g.oid = m.roleid
   where m.member in (select oid from ours)
      or m.roleid in (select oid from ours) and not r.rolsuper and not r.rolcreaterole
         and exists (select from pg_roles x where x.rolcanlogin and not x.rolsuper and not x.rolcreaterole and pg_has_role(x.oid, m.member, 'member')
                       and has_database_privilege(x.oid, (select oid from this), 'connect'))
   group by m.member, m.roleid`

const schemas = `
  select json_build_object('name', p.name, 'owner', w.name) as entry
    from place p join pg_namespace n on n.oid = p.oid join who w on w.oid = n.nspowner`

/**
 * Of a view, a digest of its text without the names that columns are qualified with, since versions differ there, and of
 * the columns and functions that it uses.
 */
const relations = `
  select json_strip_nulls(json_build_object(
           'name', c.name,
           'kind', case c.relkind when 'r' then 'table' when 'p' then 'partitioned table' when 'f' then 'foreign table' when 'v' then 'view'
                                  when 'm' then 'materialized view' else 'sequence' end,
           'owner', w.name,
           'part_of', (select string_agg(format('%I.%I', n.nspname, parent.relname), ', ' order by i.inhseqno)
                         from pg_inherits i join pg_class parent on parent.oid = i.inhparent join pg_namespace n on n.oid = parent.relnamespace
                        where i.inhrelid = c.oid),
           'row_security', case when c.relkind in ('r', 'p', 'f') then c.relrowsecurity end,
           'forced', case when c.relkind in ('r', 'p', 'f') then c.relforcerowsecurity end,
           'tenant_id', (select concat_ws(' ', case when a.attnotnull then 'not null' end, case when d.oid is null then 'no default' when a.attgenerated = '' then 'default' else 'generated' end, pg_get_expr(d.adbin, d.adrelid))
                           from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
                          where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped and c.relkind in ('r', 'p', 'f')),
           'security_invoker', case when c.relkind = 'v' then coalesce((select option_value::bool from pg_options_to_table(c.reloptions) where option_name = 'security_invoker'), false) end,
           'security_barrier', case when c.relkind = 'v' then coalesce((select option_value::bool from pg_options_to_table(c.reloptions) where option_name = 'security_barrier'), false) end,
           'definition', case when c.relkind in ('v', 'm') then encode(sha256(convert_to(
                              regexp_replace(pg_get_viewdef(c.oid), '([a-z_][a-z0-9_$]*|"[^"]*")\\.', '', 'g') || coalesce(
                                (select string_agg(pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid), ', '
                                                   order by pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) collate "C")
                                   from pg_rewrite v join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = v.oid and d.deptype = 'n'
                                  where v.ev_class = c.oid and d.refobjid <> c.oid), ''), 'UTF8')), 'hex') end)) as entry
    from relation c join who w on w.oid = c.relowner`

const types = `
  select json_build_object('name', t.name,
                           'kind', case t.typtype when 'e' then 'enum' when 'd' then 'domain' when 'r' then 'range' when 'c' then 'composite' else 'base' end,
                           'owner', w.name) as entry
    from standalone t join who w on w.oid = t.typowner`

/** The body as a digest: lines may end in CR LF, and what is around it does not count. */
const functions = `
  select json_strip_nulls(json_build_object(
           'name', f.name,
           'kind', case f.prokind when 'f' then 'function' when 'p' then 'procedure' when 'a' then 'aggregate' else 'window' end,
           'owner', w.name,
           'security', case when f.prosecdef then 'definer' else 'invoker' end,
           'language', l.lanname,
           'returns', pg_get_function_result(f.oid),
           'volatility', case f.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
           'parallel', case f.proparallel when 's' then 'safe' when 'r' then 'restricted' else 'unsafe' end,
           'strict', f.proisstrict,
           'leakproof', f.proleakproof,
           'settings', coalesce(to_json((select array_agg(setting order by setting collate "C") from unnest(f.proconfig) setting)), '[]'),
           'body', encode(sha256(convert_to(btrim(replace(coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) || coalesce(f.probin, ''),
                                                          E'\\r\\n', E'\\n'), E' \\t\\n\\r'), 'UTF8')), 'hex'))) as entry
    from routine f join who w on w.oid = f.proowner join pg_language l on l.oid = f.prolang`

const policies = `
  select json_strip_nulls(json_build_object(
           'on', c.name, 'name', p.polname,
           'kind', case when p.polpermissive then 'permissive' else 'restrictive' end,
           'for', case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
           'to', (select array_agg(w.name order by w.name collate "C") from who w where w.oid = any (p.polroles)),
           'using', pg_get_expr(p.polqual, p.polrelid),
           'check', pg_get_expr(p.polwithcheck, p.polrelid))) as entry
    from pg_policy p join relation c on c.oid = p.polrelid`

/** The triggers that enforce a foreign key have no name of their own, and are there only when somebody switched them off. */
const triggers = `
  select json_build_object(
           'on', c.name, 'name', g.tgname,
           'enabled', case g.tgenabled when 'A' then 'always' when 'R' then 'replica' when 'O' then 'origin' else 'never' end,
           'does', replace(replace(replace(pg_get_triggerdef(g.oid), format(' ON %s ', c.name), ' '), format('TRIGGER %I ', g.tgname), ''), 'CREATE ', '')) as entry
    from pg_trigger g join relation c on c.oid = g.tgrelid
   where not g.tgisinternal
  union all
  select json_build_object('on', c.name, 'name', k.conname || ' (constraint)',
                           'enabled', case min(g.tgenabled) when 'A' then 'always' when 'R' then 'replica' else 'never' end, 'does', 'enforces it')
    from pg_trigger g join relation c on c.oid = g.tgrelid join pg_constraint k on k.oid = g.tgconstraint
   where g.tgisinternal and g.tgenabled <> 'O'
   group by c.name, k.conname`

const rules = `
  select json_build_object('on', c.name, 'name', v.rulename,
                           'enabled', case v.ev_enabled when 'A' then 'always' when 'R' then 'replica' when 'O' then 'origin' else 'never' end,
                           'does', pg_get_ruledef(v.oid)) as entry
    from pg_rewrite v join relation c on c.oid = v.ev_class
   where v.rulename <> '_RETURN'`

/**
 * A privilege of one grantee on one object; the owner's own go without saying. `initial` is what everybody knows of: of
 * the system's objects, what they came with, and what sql/bootstrap.sql grants instead of PUBLIC.
 */
const grants = `
  with thing (name, owner, acl, columns, initial) as (
    select 'database', d.datdba, coalesce(d.datacl, acldefault('d', d.datdba)), null, null::aclitem[]
      from pg_database d join this on this.oid = d.oid
    union all
    select 'schema ' || p.name, n.nspowner, coalesce(n.nspacl, acldefault('n', n.nspowner)), null, null
      from place p join pg_namespace n on n.oid = p.oid
    union all
    select c.name, c.relowner, c.relacl, null, null from relation c
    union all
    select c.name, c.relowner, a.attacl, quote_ident(a.attname), null
      from relation c join pg_attribute a on a.attrelid = c.oid and a.attacl is not null and not a.attisdropped
    union all
    select 'function ' || f.name, f.proowner, coalesce(f.proacl, acldefault('f', f.proowner)), null, null from routine f
    union all
    select 'type ' || t.name, t.typowner, coalesce(t.typacl, acldefault('T', t.typowner)), null, null from standalone t
    union all
    select format('system %I.%I', n.nspname, c.relname), c.relowner, c.relacl, null, 
           coalesce(i.initprivs, case when n.nspname = 'information_schema' then array[makeaclitem(0, c.relowner, 'SELECT', false)] else acldefault('r', c.relowner) end)
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
      left join pg_init_privs i on i.classoid = 'pg_class'::regclass and i.objoid = c.oid and i.objsubid = 0
     where c.relacl is not null and c.oid not in (select oid from relation)
       and (n.nspname in ('pg_catalog', 'information_schema') or exists (select from extension e where e.class = 'pg_class'::regclass and e.object = c.oid))
    union all
    select format('system %I.%I', n.nspname, c.relname), c.relowner, a.attacl, quote_ident(a.attname), coalesce(i.initprivs, acldefault('c', c.relowner))
      from pg_attribute a
      join pg_class c on c.oid = a.attrelid
      join pg_namespace n on n.oid = c.relnamespace
      left join pg_init_privs i on i.classoid = 'pg_class'::regclass and i.objoid = c.oid and i.objsubid = a.attnum
     where a.attacl is not null and c.oid not in (select oid from relation)
       and (n.nspname in ('pg_catalog', 'information_schema') or exists (select from extension e where e.class = 'pg_class'::regclass and e.object = c.oid))
    union all
    select format('system function %I.%I(%s)', n.nspname, f.proname, pg_get_function_identity_arguments(f.oid)), f.proowner, f.proacl, null,
           coalesce(i.initprivs, acldefault('f', f.proowner))
      from pg_proc f
      join pg_namespace n on n.oid = f.pronamespace
      left join pg_init_privs i on i.classoid = 'pg_proc'::regclass and i.objoid = f.oid
     where f.proacl is not null and f.oid not in (select oid from routine)
       and (n.nspname in ('pg_catalog', 'information_schema') or exists (select from extension e where e.class = 'pg_proc'::regclass and e.object = f.oid))
    union all
    select format('system schema %I', n.nspname), n.nspowner, n.nspacl, null, 
           coalesce(i.initprivs, case when n.nspname = 'information_schema' then array[makeaclitem(0, n.nspowner, 'USAGE', false)] else acldefault('n', n.nspowner) end)
      from pg_namespace n
      left join pg_init_privs i on i.classoid = 'pg_namespace'::regclass and i.objoid = n.oid
     where n.nspacl is not null and n.oid not in (select oid from place) and (n.nspname ~ '^pg_' or n.nspname = 'information_schema')
    union all
    select format('language %I', l.lanname), l.lanowner, l.lanacl, null, coalesce(i.initprivs, acldefault('l', l.lanowner))
      from pg_language l left join pg_init_privs i on i.classoid = 'pg_language'::regclass and i.objoid = l.oid
    union all
    select format('parameter %s', x.parname), 10, x.paracl, null, acldefault('r', 10) from pg_parameter_acl x
    union all
    select format('foreign data wrapper %I', x.fdwname), x.fdwowner, x.fdwacl, null, acldefault('r', x.fdwowner) from pg_foreign_data_wrapper x
    union all
    select format('foreign server %I', x.srvname), x.srvowner, x.srvacl, null, acldefault('r', x.srvowner) from pg_foreign_server x
    union all
    select format('tablespace %I', x.spcname), x.spcowner, x.spcacl, null, acldefault('r', x.spcowner) from pg_tablespace x
    union all
    select format('large object %s', x.oid), x.lomowner, x.lomacl, null, acldefault('r', x.lomowner) from pg_largeobject_metadata x
  )
  select json_strip_nulls(json_build_object('on', t.name, 'to', w.name,
                                            'may', lower(a.privilege_type) || coalesce(' (' || t.columns || ')', ''),
                                            'grantable', case when a.is_grantable then true end)) as entry
    from thing t
    cross join aclexplode(t.acl) a
    join who w on w.oid = a.grantee
   where a.grantee <> t.owner
     and (t.initial is null
          or (a.grantee = 0 or w.is_ours)
             and not exists (select from aclexplode(t.initial) i where i.grantee = a.grantee and i.privilege_type = a.privilege_type
                                                                   and i.is_grantable >= a.is_grantable))
     and (t.name, w.name) not in (
       ('system function pg_catalog.set_config(text, text, boolean)', 'app_owner'),
       ('system function pg_catalog.set_config(text, text, boolean)', 'app_gate'),
       ('system function pg_catalog.pg_try_advisory_xact_lock(bigint)', 'app_gate'),
       ('system function pg_catalog.pg_try_advisory_xact_lock(bigint)', 'app_jobs'),
       ('system function pg_catalog.pg_advisory_xact_lock(bigint)', 'app_jobs'),
       ('system function pg_catalog.pg_notify(text, text)', 'app_jobs'))`

/** Whose new things are everybody's, of the roles of ours that may make any; and whatever was arranged in a schema of ours or for a role of ours. */
const defaultPrivileges = `
  with kind (letter, acl_letter, name) as (
    values ('r', 'r', 'tables'), ('S', 's', 'sequences'), ('f', 'f', 'functions'), ('T', 'T', 'types'), ('n', 'n', 'schemas'), ('L', 'L', 'large objects')
  ), arranged (role, kind, place, acl) as (
    select r.oid, k.name, null, coalesce(d.defaclacl, acldefault(k.acl_letter::"char", r.oid))
      from ours r
      cross join kind k
      left join pg_default_acl d on d.defaclrole = r.oid and d.defaclnamespace = 0 and d.defaclobjtype = k.letter::"char"
     where d.oid is not null or r.oid in (select a.grantee from pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
                                           where n.oid in (select oid from place) and a.privilege_type = 'CREATE')
    union all
    select d.defaclrole, k.name, p.name, d.defaclacl
      from pg_default_acl d join kind k on k.letter = d.defaclobjtype::text join place p on p.oid = d.defaclnamespace
    union all
    select d.defaclrole, k.name, null, (select array_agg(makeaclitem(a.grantee, a.grantor, a.privilege_type, a.is_grantable))
                                          from aclexplode(d.defaclacl) a join who w on w.oid = a.grantee and w.is_ours)
      from pg_default_acl d join kind k on k.letter = d.defaclobjtype::text
     where d.defaclnamespace = 0 and d.defaclrole not in (select oid from ours)
  )
  select json_strip_nulls(json_build_object('of', o.name, 'on', d.kind, 'in', d.place, 'to', w.name, 'may', lower(a.privilege_type),
                                            'grantable', case when a.is_grantable then true end)) as entry
    from arranged d
    cross join aclexplode(d.acl) a
    join who o on o.oid = d.role
    join who w on w.oid = a.grantee
   where a.grantee <> d.role`

const queries: Readonly<Record<string, string>> = {
  database,
  roles,
  settings: roleSettings,
  memberships,
  schemas,
  relations,
  types,
  functions,
  policies,
  triggers,
  rules,
  grants,
  default_privileges: defaultPrivileges,
}
