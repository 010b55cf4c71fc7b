import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  arrange,
  type Entry,
  identities,
  printSnapshot,
  readSnapshot,
  type Snapshot,
  type Value,
} from '../../src/db/policies.ts'
import { applyDifferences, describeDifference, diffSnapshots } from '../../src/db/policy-diff.ts'
import { type Class, classifyDifferences, rules } from '../../src/db/policy-rules.ts'

const recorded = readSnapshot(readFileSync(new URL('../../sql/policies.json', import.meta.url), 'utf8'))

type Draft = Record<string, Record<string, unknown>[]>

/** The recorded one, changed by hand. */
const changed = (edit: (draft: Draft) => void): Snapshot => {
  const draft = structuredClone(recorded) as unknown as Draft
  edit(draft)
  return draft as unknown as Snapshot
}

const find = (draft: Draft, kind: string, wanted: Record<string, unknown>): Record<string, unknown> => {
  const found = draft[kind]?.find((entry) => Object.entries(wanted).every(([field, value]) => entry[field] === value))
  if (!found) throw new Error(`no ${kind} like ${JSON.stringify(wanted)}`)
  return found
}

const set = (kind: string, wanted: Record<string, unknown>, fields: Record<string, unknown>) =>
  changed((draft) => void Object.assign(find(draft, kind, wanted), fields))

const add = (...entries: [kind: string, entry: Record<string, unknown>][]) =>
  changed((draft) => {
    for (const [kind, entry] of entries) draft[kind]?.push(entry)
  })

const remove = (kind: string, wanted: Record<string, unknown>) =>
  changed((draft) => void draft[kind]?.splice(draft[kind].indexOf(find(draft, kind, wanted)), 1))

// Any snapshot like the recorded one, with one thing in it done otherwise

const text = fc.string({ minLength: 1, maxLength: 12 })
const anyValue = fc.oneof(text, fc.boolean(), fc.integer(), fc.array(text, { maxLength: 3 }))
const kinds = Object.keys(identities).filter((kind) => recorded[kind]?.length)
const anyEntry = fc
  .constantFrom(...kinds)
  .chain((kind) => fc.record({ kind: fc.constant(kind), index: fc.nat((recorded[kind]?.length ?? 1) - 1) }))

const removal = anyEntry.map(({ kind, index }) => changed((draft) => void draft[kind]?.splice(index, 1)))
const alteration = fc.tuple(anyEntry, fc.nat(), anyValue).map(([{ kind, index }, which, value]) =>
  changed((draft) => {
    const entry = draft[kind]?.[index] ?? {}
    const fields = Object.keys(entry)
    const field = fields[which % fields.length] ?? ''
    const is = JSON.stringify(entry[field])
    entry[field] = JSON.stringify(value) === is ? [value, 'changed'].flat().map(String) : value
  }),
)
const loss = fc.tuple(anyEntry, fc.nat()).map(([{ kind, index }, which]) =>
  changed((draft) => {
    const entry = draft[kind]?.[index] ?? {}
    const optional = Object.keys(entry).filter((field) => !identities[kind]?.includes(field))
    const field = optional[which % Math.max(1, optional.length)]
    if (field === undefined) draft[kind]?.splice(index, 1)
    else delete entry[field]
  }),
)
const addition = fc
  .tuple(fc.constantFrom(...Object.keys(identities)), fc.uuid(), anyValue)
  .map(([kind, id, value]) => add([kind, { [identities[kind]?.[0] ?? '']: id, extra: value }]))
const novelty = fc
  .tuple(fc.uuid(), anyValue)
  .map(([id, value]) => ({ ...recorded, publications: [{ name: id, value }] }) as Snapshot)
const mutation = fc.oneof(removal, alteration, loss, addition, novelty)

describe('a snapshot', () => {
  test('is read as it was written, and written as it was read', () => {
    const printed = printSnapshot(recorded)

    expect(printed).toBe(readFileSync(new URL('../../sql/policies.json', import.meta.url), 'utf8'))
    expect(readSnapshot(printed)).toEqual(recorded)
    expect(Object.keys(recorded)).toEqual(Object.keys(identities))
  })

  test('has a line for each entry, and none of them depends on the order in which it was found', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(), { minLength: 400, maxLength: 400 }), (keys) => {
        const shuffled = changed((draft) => {
          for (const entries of Object.values(draft)) {
            const order = new Map(entries.map((entry, i) => [entry, keys[i % keys.length] ?? 0]))
            entries.sort((a, b) => (order.get(a) ?? 0) - (order.get(b) ?? 0))
          }
        })
        expect(printSnapshot(shuffled)).toBe(printSnapshot(recorded))
      }),
      { numRuns: 20 },
    )
    const lines = printSnapshot(recorded).split('\n')
    for (const line of lines.filter((line) => line.startsWith('    ')))
      expect(() => JSON.parse(line.replace(/,$/, ''))).not.toThrow()
  })

  test.each([
    ['', 'it is no snapshot'],
    ['[]', 'it is no snapshot'],
    ['null', 'it is no snapshot'],
    ['{ "format": 2 }', 'it is of format 2, and this code knows 1'],
    ['{ "roles": [] }', 'it is of format undefined'],
    ['{ "format": 1, "roles": {} }', 'its roles are no list of entries'],
    ['{ "format": 1, "roles": [{ "name": null }] }', 'its roles are no list of entries'],
    ['{ "format": 1, "roles": [{ "name": "a", "constructor": 1 }] }', 'its roles are no list of entries'],
    ['{ "format": 1, "constructor": [] }', 'it is no snapshot'],
    ['{ "format": 1, "roles": [{ "name": "a" }, { "name": "a", "login": true }] }', 'two entries for the same thing'],
  ])('is not %s', (text, message) => {
    expect(() => readSnapshot(text)).toThrow(message)
  })
})

describe('a difference', () => {
  test('is none between a snapshot and itself', () => {
    expect(diffSnapshots(recorded, recorded)).toEqual([])
    fc.assert(
      fc.property(mutation, (one) => {
        expect(diffSnapshots(one, one)).toEqual([])
      }),
    )
  })

  test('is there for every single mutation, and says what it was in words', () => {
    fc.assert(
      fc.property(mutation, (to) => {
        const differences = diffSnapshots(recorded, to)
        expect(differences.length).toBeGreaterThan(0)
        for (const difference of differences)
          expect(describeDifference(difference)).toMatch(/: (added|removed|.* was .*, and is )/s)
      }),
      { numRuns: 500 },
    )
  })

  test('makes of the one what the other is, whichever two they are', () => {
    fc.assert(
      fc.property(mutation, mutation, (a, b) => {
        expect(applyDifferences(a, diffSnapshots(a, b))).toEqual(arrange(b))
        expect(applyDifferences(b, diffSnapshots(b, a))).toEqual(arrange(a))
      }),
      { numRuns: 300 },
    )
  })

  test('of a kind that no rule knows is never safe', () => {
    fc.assert(
      fc.property(fc.uuid(), anyValue, (name, value) => {
        const unheardOf = { publications: [{ name, value }], event_triggers: [{ name }] } as Snapshot
        const there = { ...recorded, ...unheardOf } as Snapshot
        const altered = { ...there, publications: [{ name, value, more: 'than before' }] } as Snapshot
        for (const [from, to] of [
          [recorded, there],
          [there, recorded],
          [there, altered],
        ] as const) {
          const found = classifyDifferences(from, to)
          expect(found.length).toBeGreaterThan(0)
          for (const difference of found) expect(difference.class).not.toBe('safe')
        }
      }),
    )
  })

  test('of a field that no rule knows is never safe', () => {
    for (const kind of kinds) {
      const differences = classifyDifferences(
        recorded,
        changed((draft) => void Object.assign(draft[kind]?.[0] ?? {}, { heard_of: 'never' })),
      )
      expect(differences, kind).toHaveLength(1)
      expect(differences[0]?.class, kind).not.toBe('safe')
    }
  })
})

// What each is

const projects = { on: 'app.projects' }
const wall = { ...projects, name: 'wall' }
const policy = (fields: Record<string, unknown>): ['policies', Record<string, unknown>] => [
  'policies',
  { ...projects, name: 'more', kind: 'permissive', for: 'select', to: ['app_api'], using: 'true', ...fields },
]
const grant = (may: string, on: string, to: string, fields = {}): ['grants', Record<string, unknown>] => [
  'grants',
  { on, to, may, ...fields },
]
const role = (fields: Record<string, unknown>): ['roles', Record<string, unknown>] => {
  const powers = { superuser: false, bypassrls: false, createrole: false, createdb: false, replication: false }
  return ['roles', { name: 'app_reports', login: true, inherit: false, ...powers, connection_limit: -1, ...fields }]
}
const routine = (fields: Record<string, unknown>): ['functions', Record<string, unknown>] => {
  const settings = ['search_path=pg_catalog, pg_temp']
  const shape = { owner: 'app_gate', security: 'definer', language: 'plpgsql', leakproof: false, settings, body: 'x' }
  return ['functions', { name: 'app.more()', ...shape, ...fields }]
}
const table = (fields: Record<string, unknown>): ['relations', Record<string, unknown>] => {
  const shape = { kind: 'table', owner: 'app_owner', row_security: true, forced: true }
  return ['relations', { name: 'app.planted', ...shape, tenant_id: 'not null default app.tenant_id()', ...fields }]
}
const wallOf = (on: string, fields = {}) =>
  policy({ on, name: 'wall', kind: 'restrictive', for: 'all', to: ['public'], ...fields })
const trigger = (fields: Record<string, unknown>): ['triggers', Record<string, unknown>] => [
  'triggers',
  {
    ...projects,
    name: 'stamp',
    enabled: 'always',
    does: 'BEFORE INSERT FOR EACH ROW EXECUTE FUNCTION app.stamp()',
    ...fields,
  },
]
const withView = (fields: Record<string, unknown>) =>
  table({ name: 'app.names', kind: 'view', tenant_id: undefined, ...fields })
const without = (snapshot: Snapshot, on: string): Snapshot =>
  Object.fromEntries(
    Object.entries(snapshot).map(([kind, entries]) => [
      kind,
      entries.filter((entry) => entry.on !== on && entry.name !== on),
    ]),
  )

const cases: readonly [title: string, to: Snapshot, ...classes: Class[]][] = [
  // Grants
  ['a revoked grant', remove('grants', { ...projects, to: 'app_api', may: 'select' }), 'safe'],
  ['a new column', add(grant('update (color)', 'app.projects', 'app_api')), 'review'],
  ['to the gate', add(grant('select', 'app.projects', 'app_gate')), 'review'],
  ['to PUBLIC', add(grant('select', 'app.projects', 'public')), 'dangerous'],
  ['to a stranger', add(grant('select', 'app.projects', 'metabase')), 'dangerous'],
  ['that can be passed on', add(grant('update (color)', 'app.projects', 'app_api', { grantable: true })), 'dangerous'],
  [
    'that can be passed on, from now on',
    set('grants', { ...projects, to: 'app_api', may: 'select' }, { grantable: true }),
    'dangerous',
  ],
  ['of truncate', add(grant('truncate', 'app.projects', 'app_gate')), 'dangerous'],
  ['of references', add(grant('references (id)', 'app.projects', 'app_gate')), 'dangerous'],
  ['of trigger', add(grant('trigger', 'app.projects', 'app_gate')), 'dangerous'],
  ['of tenant_id', add(grant('insert (tenant_id)', 'app.projects', 'app_api')), 'dangerous'],
  ['of all columns, tenant_id with them', add(grant('update', 'app.projects', 'app_api')), 'dangerous'],
  ['of a table without a wall', add(grant('select (email)', 'app.users', 'app_api')), 'dangerous'],
  ['of the context’s key', add(grant('select', 'app.context_key', 'app_gate', { may: 'select (id)' })), 'dangerous'],
  ['behind a wall that lists the role', add(grant('select', 'app.tenants', 'app_operator')), 'review'],
  ['of the engine, to itself', add(grant('select', 'pgboss.warning', 'app_jobs')), 'review'],
  ['of the engine, to another', add(grant('select', 'pgboss.warning', 'app_worker')), 'dangerous'],
  ['of partitions', add(grant('select', 'audit.audit_log_*', 'app_api')), 'dangerous'],
  ['of one partition', add(grant('select', 'audit.audit_log_2026_03', 'app_api')), 'dangerous'],
  ['of a function', add(grant('execute', 'function app.context()', 'app_api')), 'review'],
  [
    'of a function that takes the tenant',
    add(grant('execute', 'function app.enter_job(p_tenant_id uuid, p_job_id uuid, p_kind text)', 'app_api')),
    'dangerous',
  ],
  [
    'of a function that answers it',
    add(grant('execute', 'function app.whose(p_id uuid, OUT tenant_id uuid)', 'app_api')),
    'review',
  ],
  ['to make things in a schema', add(grant('create', 'schema app', 'app_worker')), 'dangerous'],
  ['to make temporary tables', add(grant('temporary', 'database', 'app_worker')), 'dangerous'],
  ['to connect', add(grant('connect', 'database', 'app_search')), 'review'],
  ['of the system', add(grant('execute', 'system function pg_catalog.pg_read_file(text)', 'app_api')), 'dangerous'],
  ['of a parameter', add(grant('set', 'parameter session_replication_role', 'app_worker')), 'dangerous'],
  [
    'of a sequence',
    add(
      table({ name: 'app.numbers', kind: 'sequence', tenant_id: undefined }),
      grant('usage', 'app.numbers', 'app_api'),
    ),
    'dangerous',
    'review',
  ],
  [
    'of a view that asks as its caller',
    add(withView({ security_invoker: true }), grant('select', 'app.names', 'app_api')),
    'review',
    'review',
  ],
  [
    'of a view that asks as its owner',
    add(withView({ security_invoker: false }), grant('select', 'app.names', 'app_api')),
    'dangerous',
    'dangerous',
  ],
  [
    'of a materialised view',
    add(withView({ kind: 'materialized view' }), grant('select', 'app.names', 'app_api')),
    'dangerous',
    'dangerous',
  ],
  [
    'by default, to PUBLIC',
    add(['default_privileges', { of: 'app_gate', on: 'functions', to: 'public', may: 'execute' }]),
    'dangerous',
  ],
  [
    'by default, to a login role',
    add(['default_privileges', { of: 'app_owner', on: 'tables', in: 'app', to: 'app_api', may: 'select' }]),
    'dangerous',
  ],
  [
    'by default, to the gate',
    add(['default_privileges', { of: 'app_owner', on: 'tables', to: 'app_gate', may: 'select' }]),
    'review',
  ],
  ['by default, that is gone', remove('default_privileges', { of: 'app_audit' }), 'safe'],

  // Policies
  ['a wall that is gone', remove('policies', wall), 'dangerous'],
  ['a wall that is permissive', set('policies', wall, { kind: 'permissive' }), 'dangerous'],
  ['a wall with an or', set('policies', wall, { using: '(tenant_id = app.tenant_id() OR true)' }), 'dangerous'],
  ['a wall without a check', set('policies', wall, { check: undefined }), 'dangerous'],
  ['a wall for some commands', set('policies', wall, { for: 'select' }), 'dangerous'],
  ['a wall for some roles', set('policies', wall, { to: ['app_api'] }), 'dangerous'],
  ['a new wall that is permissive', add(wallOf('app.users', { kind: 'permissive' })), 'dangerous'],
  ['a new policy that narrows', add(policy({ kind: 'restrictive' })), 'safe'],
  ['a new policy behind the wall', add(policy({})), 'review'],
  ['a new policy without a wall', add(policy({ on: 'app.users' })), 'dangerous'],
  ['a new policy for the gate', add(policy({ on: 'app.users', to: ['app_gate'] })), 'review'],
  [
    'a new policy for whom a listed wall does not bind',
    add(policy({ on: 'app.tenants', to: ['public'] })),
    'dangerous',
  ],
  ['a new policy on the context’s key', add(policy({ on: 'app.context_key', to: ['app_gate'] })), 'dangerous'],
  ['a policy that is gone', remove('policies', { ...projects, name: 'read' }), 'safe'],
  [
    'a policy for more roles',
    set('policies', { ...projects, name: 'read' }, { to: ['app_api', 'app_auth', 'app_worker'] }),
    'review',
  ],
  ['a policy for fewer roles', set('policies', { ...projects, name: 'read' }, { to: ['app_api'] }), 'safe'],
  ['a policy for other rows', set('policies', { ...projects, name: 'remove' }, { using: 'true' }), 'review'],
  [
    'a policy for other rows, without a wall',
    set('policies', { on: 'app.security_log', name: 'read' }, { using: 'false' }),
    'dangerous',
  ],
  ['a policy that narrows now', set('policies', { ...projects, name: 'read' }, { kind: 'restrictive' }), 'safe'],

  // Relations
  ['row security that is off', set('relations', { name: 'app.users' }, { row_security: false }), 'dangerous'],
  ['force that is off', set('relations', { name: 'app.users' }, { forced: false }), 'dangerous'],
  ['a table that a login role owns', set('relations', { name: 'app.users' }, { owner: 'app_api' }), 'dangerous'],
  ['a table that who migrates owns', set('relations', { name: 'app.users' }, { owner: '(who migrates)' }), 'dangerous'],
  ['a table that the gate owns', set('relations', { name: 'app.projects' }, { owner: 'app_search' }), 'review'],
  [
    'a tenant_id from elsewhere',
    set('relations', { name: 'app.projects' }, { tenant_id: 'not null default gen_random_uuid()' }),
    'dangerous',
  ],
  ['a tenant_id that is gone', set('relations', { name: 'app.projects' }, { tenant_id: undefined }), 'dangerous'],
  ['a tenant_id without a wall', set('relations', { name: 'app.users' }, { tenant_id: 'not null' }), 'dangerous'],
  ['a new table with its wall', add(table({}), wallOf('app.planted')), 'review', 'safe'],
  ['a new table without its wall', add(table({})), 'dangerous'],
  ['a new table without force', add(table({ forced: false }), wallOf('app.planted')), 'dangerous', 'safe'],
  ['a new table of a login role', add(table({ owner: 'app_worker' }), wallOf('app.planted')), 'dangerous', 'safe'],
  ['a new table outside the tenants', add(table({ tenant_id: undefined, row_security: false })), 'review'],
  [
    'a partition that is not like the others',
    add(table({ name: 'audit.audit_log_2026_03', part_of: 'app.audit_log' })),
    'dangerous',
  ],
  [
    'a table that is another’s part',
    set('relations', { name: 'app.projects' }, { part_of: 'app.everything' }),
    'dangerous',
  ],
  ['a table that is a view', set('relations', { name: 'app.projects' }, { kind: 'view' }), 'dangerous'],
  ['a schema of a login role', add(['schemas', { name: 'more', owner: 'app_api' }]), 'dangerous'],
  ['a schema that somebody else owns', set('schemas', { name: 'app' }, { owner: 'app_worker' }), 'dangerous'],
  ['a new schema', add(['schemas', { name: 'more', owner: 'app_owner' }]), 'review'],
  ['a type', add(['types', { name: 'app.mood', kind: 'enum', owner: 'app_owner' }]), 'review'],
  ['a type of a login role', set('types', { name: 'app.signed_in' }, { owner: 'app_auth' }), 'dangerous'],
  ['a database of a login role', set('database', { name: 'database' }, { owner: 'app_api' }), 'dangerous'],

  // Functions
  ['a new function', add(routine({})), 'review'],
  ['a new function without a path', add(routine({ settings: [] })), 'dangerous'],
  ['a new function as its caller', add(routine({ settings: [], security: 'invoker' })), 'review'],
  ['a new function of a login role', add(routine({ owner: 'app_api' })), 'dangerous'],
  ['a new function in C', add(routine({ language: 'c' })), 'dangerous'],
  ['a new function that is leakproof', add(routine({ leakproof: true })), 'dangerous'],
  ['a body', set('functions', { name: 'app.tenant_id()' }, { body: 'x' }), 'review'],
  ['a path that is gone', set('functions', { name: 'app.tenant_id()' }, { settings: [] }), 'dangerous'],
  [
    'a path that begins elsewhere',
    set('functions', { name: 'app.tenant_id()' }, { settings: ['search_path=pg_temp, pg_catalog'] }),
    'dangerous',
  ],
  ['a function as its caller', set('functions', { name: 'app.tenant_id()' }, { security: 'invoker' }), 'review'],
  ['a function of a login role', set('functions', { name: 'app.tenant_id()' }, { owner: 'app_api' }), 'dangerous'],
  ['a function of another owner', set('functions', { name: 'app.tenant_id()' }, { owner: 'app_audit' }), 'review'],
  ['a function that is leakproof', set('functions', { name: 'app.tenant_id()' }, { leakproof: true }), 'dangerous'],
  ['a function that is volatile', set('functions', { name: 'app.tenant_id()' }, { volatility: 'volatile' }), 'review'],
  [
    'a function in another language',
    set('functions', { name: 'app.tenant_id()' }, { language: 'plpython3u' }),
    'dangerous',
  ],
  [
    'a function that is gone',
    remove('functions', { name: 'app.list_tenants(p_after uuid, p_limit integer)' }),
    'review',
  ],

  // Triggers and rules
  ['an audit trigger that is gone', remove('triggers', { ...projects, name: 'audit_update' }), 'dangerous'],
  [
    'an audit trigger that sleeps',
    set('triggers', { ...projects, name: 'audit_update' }, { enabled: 'origin' }),
    'dangerous',
  ],
  [
    'an audit trigger under another name',
    changed(
      (draft) => void Object.assign(find(draft, 'triggers', { ...projects, name: 'audit_update' }), { name: 'z' }),
    ),
    'dangerous',
    'review',
  ],
  ['a log that can be changed', remove('triggers', { on: 'app.security_log', name: 'append_only' }), 'dangerous'],
  ['a version that nobody counts', set('triggers', { ...projects, name: 'version' }, { enabled: 'never' }), 'review'],
  ['a new trigger', add(trigger({})), 'review'],
  [
    'a reference that nobody enforces',
    add(trigger({ name: 'fkey (constraint)', enabled: 'never', does: 'enforces it' })),
    'dangerous',
  ],
  ['a rule', add(['rules', { ...projects, name: 'keep', enabled: 'origin', does: 'CREATE RULE' }]), 'dangerous'],

  // Roles
  ...(['superuser', 'bypassrls', 'createrole', 'createdb', 'replication', 'inherit'] as const).map(
    (power) =>
      [`a role with ${power}`, set('roles', { name: 'app_api' }, { [power]: true }), 'dangerous'] as [
        string,
        Snapshot,
        Class,
      ],
  ),
  ['an owner who logs in', set('roles', { name: 'app_owner' }, { login: true }), 'dangerous'],
  ['a role that does not log in any more', set('roles', { name: 'app_operator' }, { login: false }), 'safe'],
  ['a new role', add(role({})), 'review'],
  ['a new role that inherits', add(role({ inherit: true })), 'dangerous'],
  ['a member', add(['memberships', { role: 'app_api', of: 'app_owner', with: ['set'] }]), 'dangerous'],
  [
    'a stranger who is a member',
    add(['memberships', { role: 'metabase', of: 'app_owner', with: ['inherit', 'set'] }]),
    'dangerous',
  ],
  ['another limit', set('settings', { of: 'app_api', name: 'statement_timeout' }, { value: '0' }), 'review'],
  ['a limit that is gone', remove('settings', { of: 'app_api', name: 'lock_timeout' }), 'review'],
  ['another path', set('settings', { of: 'app_api', name: 'search_path' }, { value: 'public' }), 'dangerous'],
  [
    'triggers that sleep for everybody',
    add(['settings', { of: 'everybody', in: 'this database', name: 'session_replication_role', value: 'replica' }]),
    'dangerous',
  ],
]

test.each(cases)('%s', (_title, to, ...expected) => {
  const found = classifyDifferences(recorded, JSON.parse(JSON.stringify(to)) as Snapshot)

  expect(found.map((difference) => difference.class)).toEqual(expected)
  for (const { why } of found) expect(why).not.toBe('no rule knows this kind of difference')
})

test('what went with its table is safe, and that the table went is for a reviewer', () => {
  const found = classifyDifferences(recorded, without(recorded, 'app.idempotency_keys'))

  expect(found[0]).toMatchObject({ class: 'review', kind: 'relations', change: 'removed' })
  expect(found.length).toBeGreaterThan(10)
  for (const difference of found.slice(1)) expect(difference).toMatchObject({ class: 'safe', change: 'removed' })
})

test('grants, memberships and powers that are taken back are safe', () => {
  const widened = cases.filter(([, , worst]) => worst === 'dangerous').map(([, to]) => JSON.parse(JSON.stringify(to)))
  const kinds = ['grants', 'default_privileges', 'memberships', 'roles']
  const takenBack = widened
    .flatMap((to) => classifyDifferences(to, recorded))
    .filter(({ kind, change }) => kinds.includes(kind) && !(kind === 'roles' && change === 'removed'))

  expect(takenBack.length).toBeGreaterThan(20)
  expect(takenBack.filter((difference) => difference.class !== 'safe')).toEqual([])
})

test('the worst come first', () => {
  const to = changed((draft) => {
    draft.grants?.splice(0, 1)
    draft.grants?.push({ on: 'app.projects', to: 'app_api', may: 'update (color)' })
    draft.grants?.push({ on: 'app.projects', to: 'public', may: 'select' })
  })

  expect(classifyDifferences(recorded, to).map((difference) => difference.class)).toEqual([
    'dangerous',
    'review',
    'safe',
  ])
})

test('every rule has a class, and a reason that is a sentence of its own', () => {
  for (const [kind, table] of Object.entries(rules)) {
    expect(Object.keys(identities)).toContain(kind)
    for (const [, , verdict, why] of table) {
      expect(['dangerous', 'review', 'safe']).toContain(verdict)
      expect(why).toMatch(/^[a-zP].{10,}[^.]$/)
    }
  }
})

test('differences are told in words', () => {
  const added = (kind: string, entry: Entry) => describeDifference({ kind, change: 'added', entry })
  const changed = (kind: string, entry: Entry, field: string, from: Value | undefined, to: Value | undefined) =>
    describeDifference({ kind, change: 'changed', entry, field, from, to })
  const policy: Entry = { on: 'app.projects', name: 'read', to: ['app_api'] }

  expect(added('grants', { on: 'app.projects', to: 'app_api', may: 'update (name)' })).toBe(
    'grant of update (name) on app.projects to app_api: added',
  )
  expect(added('settings', { of: 'app_api', in: 'this database', name: 'TimeZone', value: 'UTC' })).toBe(
    'setting TimeZone of app_api in this database: added (UTC)',
  )
  expect(added('policies', policy)).toBe('policy read on app.projects: added')
  expect(added('relations', { name: 'app.numbers', kind: 'sequence' })).toBe('sequence app.numbers: added')
  expect(added('memberships', { role: 'app_api', of: 'app_owner' })).toBe('membership of app_api in app_owner: added')
  expect(added('default_privileges', { of: 'app_owner', on: 'tables', in: 'app', to: 'app_api', may: 'select' })).toBe(
    'default privilege select on tables of app_owner in app to app_api: added',
  )
  expect(added('publications', { name: 'all' })).toBe('publications {"name":"all"}: added')
  expect(changed('roles', { name: 'app_api' }, 'login', true, false)).toBe('role app_api: login was true, and is false')
  expect(changed('policies', policy, 'to', ['app_api', 'app_auth'], undefined)).toBe(
    'policy read on app.projects: to was app_api, app_auth, and is absent',
  )
})
