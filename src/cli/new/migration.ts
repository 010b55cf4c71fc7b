import { defaultOf, type Field, filterOf, indexOf, isNullable } from './fields.ts'
import type { Names } from './names.ts'

/** Table, wall, policies, grants, indexes, triggers: as sql/README.md has it. */
export const migration = ({ table, all, singular }: Names, fields: readonly Field[]): string => `\
-- ${capital(all)}, each of one tenant.

set local role app_owner;

insert into app.permissions (name, description) values
${aligned([
  [`  ('${table}:read',`, `'See ${all}.'),`],
  [`  ('${table}:write',`, `'Create and change ${all}.'),`],
  [`  ('${table}:delete',`, `'Delete ${all}.');`],
])}
insert into app.role_permissions (role, permission)
  select role, permission
    from (values ('member', 1), ('manager', 2), ('admin', 3), ('owner', 4)) as roles (role, rank)
    join (values ('${table}:read', 1), ('${table}:write', 1), ('${table}:delete', 2)) as needs (permission, rank)
      on roles.rank >= needs.rank;

create table app.${table} (
${[...columnsOf(fields), '  primary key (tenant_id, id)', ...constraintsOf(table, fields)].join(',\n')}
);
comment on table app.${table} is 'One row: one ${singular.replaceAll('_', ' ')} of one tenant.';

alter table app.${table} enable row level security;
alter table app.${table} force row level security;

create policy wall on app.${table} as restrictive to public
  using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));

create policy read   on app.${table} for select to app_api, app_worker using (true);
create policy add    on app.${table} for insert to app_api with check (true);
create policy change on app.${table} for update to app_api using (true) with check (true);
create policy remove on app.${table} for delete to app_api using ((select app.can('${table}:delete')));
create policy audit  on app.${table} for select to app_auditor using (true);

grant select, delete,
      insert (${listed(fields, 14)}),
      update (${listed(fields, 14)}) on app.${table} to app_api;
grant select on app.${table} to app_worker, app_auditor;

${indexesOf(table, fields).join('\n')}

select app.audit_table('app.${table}');
create trigger version before update on app.${table} for each row execute function app.count_version();
alter table app.${table} enable always trigger version;
`

const columnsOf = (fields: readonly Field[]): string[] =>
  aligned([
    ['  tenant_id', 'uuid', 'not null default app.tenant_id()'],
    ['  id', 'uuid', 'not null default app.uuidv7()'],
    ...fields.map((field) => [`  ${field.name}`, sqlType(field), rulesOf(field)]),
    ['  created_at', 'timestamptz', 'not null default now()'],
    ['  updated_at', 'timestamptz', 'not null default now()'],
    ['  version', 'int', 'not null default 1'],
  ]).split('\n')

const sqlType = ({ type }: Field): string => {
  switch (type.kind) {
    case 'int4':
      return 'int'
    case 'int8':
      return 'bigint'
    case 'enum':
      return 'text'
    case 'ref':
      return 'uuid'
    default:
      return type.kind
  }
}

const rulesOf = (field: Field): string =>
  [
    isNullable(field) ? '' : 'not null',
    isNullable(field) || field.required ? '' : `default ${defaultOf(field)}`,
    checkOf(field),
  ]
    .filter(Boolean)
    .join(' ')

const checkOf = ({ name, type, required }: Field): string => {
  switch (type.kind) {
    case 'text': {
      const length = required ? `between 1 and ${type.max}` : `<= ${type.max}`
      return `check (char_length(${name}) ${length} and ${name} is normalized)` // or two would look alike
    }
    case 'enum':
      return `check (${name} in (${type.values.map((value) => `'${value}'`).join(', ')}))`
    case 'int8': // what JSON's numbers are exact for
      return `check (${name} between ${Number.MIN_SAFE_INTEGER} and ${Number.MAX_SAFE_INTEGER})`
    case 'date':
      return `check (${name} between '0001-01-01' and '9999-12-31')`
    case 'timestamptz': // what can be answered in four digits
      return `check (${name} between '0001-01-01T00:00:00Z' and '9999-12-31T23:59:59.999999Z')`
    default:
      return ''
  }
}

const constraintsOf = (table: string, fields: readonly Field[]): string[] => [
  ...fields
    .filter(({ unique }) => unique)
    .map(({ name }) => `  constraint ${table}_${name}_key unique (tenant_id, ${name})`),
  ...fields.flatMap(({ name, type }) =>
    type.kind === 'ref'
      ? [
          `  constraint ${table}_${name}_fkey foreign key (tenant_id, ${name}) references app.${type.table} (tenant_id, id)`,
        ]
      : [],
  ),
]

/** A filter that asks for one value has the newest first; an order goes by the column itself. */
const indexesOf = (table: string, fields: readonly Field[]): string[] => {
  const own = fields.filter((field) => filterOf(field) !== undefined && !field.unique)
  const rows = [
    [`create index ${table}_created`, `on app.${table} (tenant_id, created_at, id);`],
    [`create index ${table}_updated`, `on app.${table} (tenant_id, updated_at, id);`],
    ...own.map((field) => [
      `create index ${indexOf(table, field, fields)}`,
      `on app.${table} (tenant_id, ${orderOf(field)}, id);`,
    ]),
  ]
  const lines = aligned(rows).split('\n')
  const plain = lines.filter((line) => !isCoded(line))
  const coded = lines.filter(isCoded)
  const why = '-- case and not coalesce, which row security takes for leaky, and then asks no index'
  return [...plain, ...(coded.length > 0 ? [why, ...coded] : [])]
}

const isCoded = (line: string): boolean => line.includes('(case when')

const orderOf = (field: Field): string => {
  const { name } = field
  if (filterOf(field) === 'equals') return `${name}, created_at`
  return isNullable(field) ? `(case when ${name} is null then 'infinity' else ${name} end)` : name
}

/** In columns, the first a little apart from the others where these are many; the last is as long as it is. */
const aligned = (rows: readonly (readonly string[])[]): string => {
  const widths = rows.reduce<number[]>((most, row) => row.map((cell, n) => Math.max(most[n] ?? 0, cell.length)), [])
  const line = (row: readonly string[]) =>
    row.map((cell, n) => cell.padEnd((widths[n] ?? 0) + (n === 0 && row.length > 2 ? 1 : 0))).join(' ')
  return rows.map((row) => line(row).trimEnd()).join('\n')
}

/** Names in lines of 120. */
const listed = (fields: readonly Field[], indent: number): string => {
  const lines = ['']
  for (const [position, { name }] of fields.entries()) {
    const word = position < fields.length - 1 ? `${name}, ` : name
    const line = lines.at(-1) ?? ''
    if (line !== '' && indent + line.length + word.length > 100) lines.push(word)
    else lines[lines.length - 1] = line + word
  }
  return lines.map((line) => line.trimEnd()).join(`\n${' '.repeat(indent)}`)
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)
