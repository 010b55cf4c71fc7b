/** Everything that isolation could depend on, by kind: what there is, not whether it is right. */
import type pg from 'pg'

export const inventoryKinds = [
  'schema',
  'table',
  'partition',
  'foreign table',
  'view',
  'materialised view',
  'sequence',
  'function',
  'foreign key',
  'unique index',
  'policy',
  'trigger',
  'role',
  'role setting',
  'grant',
  'default privilege',
] as const
export type InventoryKind = (typeof inventoryKinds)[number]

export type Inventory = Readonly<Record<InventoryKind, readonly string[]>>

/** Names in order. Roles are listed with their attributes and memberships, since these are what a role is. */
export async function takeInventory(client: pg.ClientBase): Promise<Inventory> {
  const { rows } = await client.query<{ kind: InventoryKind; names: string[] }>(
    `select kind, array_agg(name order by name) as names from (${everything}) it group by kind`,
  )
  const found = new Map(rows.map(({ kind, names }) => [kind, names]))
  return Object.fromEntries(inventoryKinds.map((kind) => [kind, found.get(kind) ?? []])) as unknown as Inventory
}

const ours = `n.nspname !~ '^pg_' and n.nspname <> 'information_schema'`
const grantee = `case a.grantee when 0 then 'PUBLIC' else pg_get_userbyid(a.grantee) end`

const everything = `
  select 'schema' as kind, format('%I', n.nspname) as name from pg_namespace n where ${ours}
  union all
  select case when c.relispartition then 'partition'
              else case c.relkind when 'f' then 'foreign table' when 'v' then 'view' when 'm' then 'materialised view' when 'S' then 'sequence'
                                  else 'table' end end,
         format('%I.%I', n.nspname, c.relname)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where c.relkind in ('r', 'p', 'f', 'v', 'm', 'S') and ${ours}
  union all
  select 'function', format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace where ${ours}
  union all
  select 'foreign key', format('%I on %I.%I', k.conname, n.nspname, c.relname)
    from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
   where k.contype = 'f' and ${ours}
  union all
  select 'unique index', format('%I on %I.%I', i.relname, n.nspname, c.relname)
    from pg_index x join pg_class i on i.oid = x.indexrelid join pg_class c on c.oid = x.indrelid join pg_namespace n on n.oid = c.relnamespace
   where (x.indisunique or x.indisexclusion) and ${ours}
  union all
  select 'policy', format('%I on %I.%I', p.polname, n.nspname, c.relname)
    from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
  union all
  select 'trigger', format('%I on %I.%I', t.tgname, n.nspname, c.relname)
    from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
   where not t.tgisinternal and ${ours}
  union all
  select 'trigger', format('%I, an event trigger', e.evtname) from pg_event_trigger e
  union all
  select 'role', concat_ws(', ', format('%I', r.rolname), case when r.rolcanlogin then 'login' end, case when r.rolsuper then 'superuser' end,
           case when r.rolbypassrls then 'bypassrls' end, case when r.rolcreaterole then 'createrole' end, case when r.rolcreatedb then 'createdb' end,
           case when r.rolreplication then 'replication' end, case when r.rolinherit then 'inherit' end,
           (select 'member of ' || string_agg(g.rolname, ' and ' order by g.rolname) from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid))
    from pg_roles r where r.rolname !~ '^pg_'
  union all
  select 'role setting', concat_ws(' ', case when s.setrole = 0 then 'everybody' else pg_get_userbyid(s.setrole) end,
           case when s.setdatabase <> 0 then 'in this database' end) || ': ' || setting
    from pg_db_role_setting s cross join unnest(s.setconfig) setting
   where s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
  union all
  select 'grant', format('%s on database %I to %s', lower(a.privilege_type), d.datname, ${grantee})
    from pg_database d cross join aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
   where d.datname = current_database() and a.grantee <> d.datdba
  union all
  select 'grant', format('%s on schema %I to %s', lower(a.privilege_type), n.nspname, ${grantee})
    from pg_namespace n cross join aclexplode(n.nspacl) a where ${ours} and a.grantee <> n.nspowner
  union all
  select 'grant', format('%s on %I.%I to %s', lower(a.privilege_type), n.nspname, c.relname, ${grantee})
    from pg_class c join pg_namespace n on n.oid = c.relnamespace cross join aclexplode(c.relacl) a where ${ours} and a.grantee <> c.relowner
  union all
  select 'grant', format('%s of %I on %I.%I to %s', lower(a.privilege_type), t.attname, n.nspname, c.relname, ${grantee})
    from pg_attribute t join pg_class c on c.oid = t.attrelid join pg_namespace n on n.oid = c.relnamespace cross join aclexplode(t.attacl) a
   where ${ours} and not t.attisdropped
  union all
  select 'grant', format('execute on %I.%I(%s) to %s', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid), ${grantee})
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace cross join aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
   where ${ours} and a.grantee <> p.proowner
  union all
  select 'grant', format('usage on type %I.%I to %s', n.nspname, t.typname, ${grantee})
    from pg_type t join pg_namespace n on n.oid = t.typnamespace cross join aclexplode(t.typacl) a where ${ours} and a.grantee <> t.typowner
  union all
  select 'grant', format('%s on parameter %s to %s', lower(a.privilege_type), p.parname, ${grantee})
    from pg_parameter_acl p cross join aclexplode(p.paracl) a where a.grantee <> 10
  union all
  select 'default privilege', format('%s on %s%s of %I to %s', lower(a.privilege_type),
           case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types'
                                when 'n' then 'schemas' else 'large objects' end,
           ' in ' || quote_ident(n.nspname), pg_get_userbyid(d.defaclrole), ${grantee})
    from pg_default_acl d left join pg_namespace n on n.oid = d.defaclnamespace cross join aclexplode(d.defaclacl) a`
