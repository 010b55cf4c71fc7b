/**
 * Tables as the conventions ask for them, as many as are wanted: with references to one another, checks, unique values,
 * generated columns and the types that rows are made of. Nothing names them but their number.
 */
export const manyTables = (count: number): string =>
  [
    'set local role app_owner;',
    `create domain app.country as text check (value ~ '^[A-Z]{2}$');`,
    ...Array.from({ length: count }, (_, number) => table(number)),
    'reset role;',
  ].join('\n')

const name = (number: number): string => `app.t${String(number).padStart(3, '0')}`

const table = (number: number): string => {
  const it = name(number)
  const parents = [number - 1, number - 7].filter((parent) => parent >= 0)
  const columns = [
    'tenant_id uuid not null default app.tenant_id()',
    'id uuid not null default app.uuidv7()',
    'name text not null check (char_length(name) between 1 and 200)',
    ...(extras[number % extras.length] ?? []),
    ...parents.map((_, at) => `parent_${at}_id uuid${at === 0 ? ' not null' : ''}`),
    'created_at timestamptz not null default now()',
    'updated_at timestamptz not null default now()',
    'version int not null default 1',
    'primary key (tenant_id, id)',
    `constraint t${number}_name_key unique (tenant_id, name)`,
    ...parents.map((parent, at) => `foreign key (tenant_id, parent_${at}_id) references ${name(parent)}`),
  ]
  const writable = [
    'name',
    ...parents.map((_, at) => `parent_${at}_id`),
    ...(written[number % written.length] ?? []),
  ].join(', ')
  return `
    create table ${it} (${columns.join(', ')});
    alter table ${it} enable row level security, force row level security;
    create policy wall on ${it} as restrictive to public
      using (tenant_id = (select app.tenant_id())) with check (tenant_id = (select app.tenant_id()));
    create policy read on ${it} for select to app_api, app_worker using (true);
    create policy add on ${it} for insert to app_api with check (true);
    create policy change on ${it} for update to app_api using (true) with check (true);
    create policy remove on ${it} for delete to app_api using ((select app.can('projects:delete')));
    grant select, delete, insert (${writable}), update (${writable}) on ${it} to app_api;
    grant select on ${it} to app_worker;
    create index on ${it} (tenant_id, created_at, id);
    select app.audit_table('${it}');
    create trigger version before update on ${it} for each row execute function app.count_version();
    alter table ${it} enable always trigger version;`
}

const extras: readonly (readonly string[])[] = [
  [
    "status text not null default 'open' check (status in ('open', 'closed'))",
    'closed_at timestamptz',
    "check ((status = 'closed') = (closed_at is not null))",
  ],
  [
    "currency text not null check (currency ~ '^[A-Z]{3}$')",
    'amount_minor bigint not null check (amount_minor > 0)',
    'fee_minor bigint not null',
    'check (fee_minor < amount_minor)',
  ],
  ['country app.country not null', "email text not null check (email = lower(email) and position('@' in email) > 1)"],
  [
    'digest bytea not null check (length(digest) = 32)',
    "url text not null check (url ~ '^https?://[^/]+/')",
    'tags text[] not null',
  ],
  [
    'starts_at timestamptz not null',
    'ends_at timestamptz not null',
    'check (ends_at > starts_at)',
    'network cidr',
    'settings jsonb not null',
  ],
  [
    "slug text not null check (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$')",
    "secret text check (secret like 'whsec\\_%')",
    'slug_length int generated always as (char_length(slug)) stored',
  ],
  [
    'percent numeric(5, 2) not null check (percent between 0 and 100)',
    'code varchar(12) not null',
    'is_active boolean not null',
    'took interval',
  ],
]
const written: readonly (readonly string[])[] = [
  ['status', 'closed_at'],
  ['currency', 'amount_minor', 'fee_minor'],
  ['country', 'email'],
  ['digest', 'url', 'tags'],
  ['starts_at', 'ends_at', 'network', 'settings'],
  ['slug', 'secret'],
  ['percent', 'code', 'is_active', 'took'],
]
