/**
 * What a difference means for isolation: one table of rules, of which the first that fits decides; what no rule knows is
 * for a reviewer. None of it replaces the laws, which look at a database as it is.
 */
import { type Entry, familyOfMonth, type Snapshot, type Value } from './policies.ts'
import { type Difference, diffSnapshots } from './policy-diff.ts'

/** How the wall falls; what somebody has to look at; what takes something away or narrows. */
export const classes = ['dangerous', 'review', 'safe'] as const
export type Class = (typeof classes)[number]

export type Verdict = { class: Class; why: string }

/** The differences, worst first. */
export const classifyDifferences = (from: Snapshot, to: Snapshot): (Difference & Verdict)[] => {
  const after = lookup(to)
  return diffSnapshots(from, to)
    .map((difference) => ({ ...difference, ...judge(difference, after) }))
    .sort((a, b) => classes.indexOf(a.class) - classes.indexOf(b.class))
}

const judge = (difference: Difference, after: Lookup): Verdict => {
  const { kind, change, entry } = difference
  const [from, to] = change === 'changed' ? [difference.from, difference.to] : []
  const changes = change === 'changed' ? [difference.field, '*'] : [change]
  const found = rules[kind]?.find(([change, when]) => changes.includes(change) && when({ entry, from, to, after }))
  return found ? { class: found[2], why: found[3] } : { class: 'review', why: 'no rule knows this kind of difference' }
}

// What rules ask of the snapshot as it is after the difference

type Lookup = {
  relation(name: Value | undefined): Entry | undefined
  /** Also when of a table's partitions by month, which stood there together, some are left. */
  hasTable(name: Value | undefined): boolean
  role(name: Value | undefined): Entry | undefined
  /** Whether a wall for all commands stands on the table in front of all of these roles. */
  isWalled(table: Value | undefined, roles: readonly string[]): boolean
}

const lookup = ({ relations = [], roles = [], policies = [] }: Snapshot): Lookup => {
  // a partition by month stands there by its own name, or with the others
  const named = (field: string, entries: readonly Entry[]) => {
    const byName = new Map(entries.map((entry) => [entry[field], entry]))
    return (name: Value | undefined) => byName.get(name ?? '') ?? byName.get(familyOfMonth(name) ?? '')
  }
  const walls = policies.filter(({ name }) => name === 'wall')
  const wallOf = named('on', walls)
  const tables = new Set(relations.flatMap(({ name = '' }) => [name, familyOfMonth(name) ?? name]))
  return {
    relation: named('name', relations),
    hasTable: (name) => tables.has(name ?? ''),
    role: named('name', roles),
    isWalled: (table, whom) => {
      const { kind, for: commands, to } = wallOf(table) ?? {}
      const bound = list(to)
      const bindsAll = bound.includes('public') || whom.every((role) => bound.includes(role))
      return kind === 'restrictive' && commands === 'all' && bindsAll
    },
  }
}

const list = (value: Value | undefined): readonly string[] => (Array.isArray(value) ? value : [])

// Conditions

/** An entry as it is after the difference, or was before it went; of a field that changed, its values. */
type Case = { entry: Entry; from: Value | undefined; to: Value | undefined; after: Lookup }
type Condition = (at: Case) => boolean

const always: Condition = () => true
const all =
  (...conditions: Condition[]): Condition =>
  (at) =>
    conditions.every((condition) => condition(at))
const not =
  (condition: Condition): Condition =>
  (at) =>
    !condition(at)
const is =
  (field: string, ...values: Value[]): Condition =>
  ({ entry }) =>
    values.includes(entry[field] ?? '')
const becomes =
  (value: Value): Condition =>
  ({ to }) =>
    to === value

const onlyGained: Condition = ({ from, to }) => list(from).every((one) => list(to).includes(one))
const onlyLost: Condition = ({ from, to }) => list(to).every((one) => list(from).includes(one))

/** Somebody logs in as it; or it is everybody, or a role that is not the product's, of which nothing is known. */
const isReachable = (role: Value | undefined, after: Lookup): boolean => after.role(role)?.login !== false

const ownedByLogin: Condition = ({ entry, after }) => after.role(entry.owner)?.login === true
const newOwnerIsReachable: Condition = ({ to, after }) => isReachable(to, after)
const isGone: Condition = ({ entry, after }) => !after.hasTable(entry.on)
const isOwners: Condition = ({ entry, after }) => after.relation(entry.on)?.owner === entry.to

const powers = ['superuser', 'bypassrls', 'createrole', 'createdb', 'replication', 'inherit'] as const
const hasPower: Condition = ({ entry }) => powers.some((power) => entry[power] === true)

const decidesWhatIsMeant: Condition = ({ entry }) =>
  /^(search_path|role|row_security|session_replication_role|\w+_preload_libraries)$/i.test(String(entry.name))

const isUnforced: Condition = ({ entry }) =>
  entry.tenant_id !== undefined && !(entry.row_security === true && entry.forced === true)
/** A wall may list its roles; those that enter tenants are always among them. */
const isUnwalled: Condition = ({ entry, after }) =>
  entry.tenant_id !== undefined && !after.isWalled(entry.name, ['app_api', 'app_worker'])
/** Partitions by month stand there together, as `…_*`. */
const isOddMonth: Condition = ({ entry }) => entry.part_of !== undefined && familyOfMonth(entry.name) !== undefined

const isUntrusted = not(is('language', 'sql', 'plpgsql'))
const isLoose: Condition = ({ entry }) =>
  entry.security === 'definer' && !list(entry.settings).some((set) => /^search_path=pg_catalog(, pg_temp)?$/.test(set))

const isWall = is('name', 'wall')
const narrows = is('kind', 'restrictive')
/** Nobody logs in as those whom it lets pass, or the wall stands in front of them. */
const isBehindWall: Condition = ({ entry, after }) =>
  after.isWalled(entry.on, list(entry.to)) || !list(entry.to).some((role) => isReachable(role, after))

/** Of a foreign key, switched off. */
const isOfConstraint = is('does', 'enforces it')
/** Writes the audit log, or keeps a log from being changed. */
const isGuard: Condition = ({ entry }) =>
  ['audit_insert', 'audit_update', 'audit_delete', 'append_only', 'no_truncate'].includes(String(entry.name)) ||
  /\bapp\.(audit|refuse_change)\(/.test(String(entry.does))

const isKey = is('on', 'app.context_key')
const toEverybody = is('to', 'public')
const toStranger: Condition = ({ entry, after }) => after.role(entry.to) === undefined
const toReachable: Condition = ({ entry, after }) => isReachable(entry.to, after)
/** `may` is a privilege, and of a column its name in brackets. */
const isTo = (...privileges: string[]): Condition => {
  const pattern = new RegExp(`^(${privileges.join('|')})\\b`)
  return ({ entry }) => pattern.test(String(entry.may))
}
const isOfSystem: Condition = ({ entry }) =>
  /^(system|language|parameter|foreign|tablespace|large object) /.test(String(entry.on))
const isOfEngine: Condition = ({ entry }) => entry.to === 'app_jobs' && String(entry.on).startsWith('pgboss.')
const writesTenant: Condition = ({ entry, after }) =>
  /^(insert|update)( \(tenant_id\))?$/.test(String(entry.may)) && after.relation(entry.on)?.tenant_id !== undefined
const onKind =
  (...kinds: string[]): Condition =>
  ({ entry, after }) =>
    kinds.includes(String(after.relation(entry.on)?.kind))
const onPart: Condition = ({ entry, after }) => after.relation(entry.on)?.part_of !== undefined
const onOwnersView: Condition = ({ entry, after }) => after.relation(entry.on)?.security_invoker === false
const onUnwalled: Condition = (at) =>
  onKind('table', 'partitioned table', 'foreign table')(at) && !at.after.isWalled(at.entry.on, [String(at.entry.to)])
/** Of an argument, not of what it answers. */
const onDoor: Condition = ({ entry }) => /^function .*\w*tenant_id /.test(String(entry.on).replace(/\bOUT \w+ /g, ''))

// The table: of a kind, what happened (added, removed, or the field that changed; * is any), when, what that is, and why

type Rule = readonly [change: string, when: Condition, verdict: Class, why: string]

const dangerous = 'dangerous'
const review = 'review'
const safe = 'safe'

const owner = (why: string): Rule[] => [
  ['added', ownedByLogin, dangerous, why],
  ['owner', newOwnerIsReachable, dangerous, why],
  ['owner', always, review, why],
]

const privileges: Rule[] = [
  ['removed', isOwners, review, 'it is the owner now, and needs no grant'],
  ['removed', always, safe, 'it takes something away'],
  ['grantable', not(becomes(true)), safe, 'it cannot be passed on any more'],
  ['grantable', always, dangerous, 'it can be passed on to anybody'],
  ['added', toEverybody, dangerous, 'PUBLIC is everybody, also the roles of other databases of this server'],
  ['added', toStranger, dangerous, 'no law watches a role that is not of the product'],
  ['added', is('grantable', true), dangerous, 'it can be passed on to anybody'],
]

export const rules: Readonly<Record<string, readonly Rule[]>> = {
  database: [
    ['owner', becomes('(who migrates)'), safe, 'it belongs to who migrates it'],
    ...owner('its owner may change it, drop it, and grant access to it'),
  ],

  roles: [
    ['added', hasPower, dangerous, 'it comes with a power that goes past every grant'],
    ['added', always, review, 'what it may is in its grants, policies and memberships'],
    ['removed', always, review, 'whatever it was there for is without it'],
    ['login', becomes(true), dangerous, 'a role that owns, and that somebody can be, goes past its functions'],
    ['login', always, safe, 'nobody can be it any more'],
    ...powers.flatMap((power): Rule[] => [
      [power, becomes(true), dangerous, `with ${power.toUpperCase()} a role goes past what it was granted`],
      [power, always, safe, `it has lost ${power.toUpperCase()}`],
    ]),
    ['*', always, review, 'it changes how the role connects'],
  ],

  settings: ['added', 'removed', 'value'].flatMap((change): Rule[] => [
    [change, decidesWhatIsMeant, dangerous, 'it decides which tables, functions and triggers a statement means'],
    [change, always, review, 'limits keep one statement, or one injection, from holding up the others'],
  ]),

  memberships: [
    ['added', always, dangerous, 'a member can become the role, and do all that it may'],
    ['removed', always, safe, 'it cannot become that role any more'],
    ['with', onlyLost, safe, 'it can do less with its membership'],
    ['with', always, dangerous, 'it can do more with its membership'],
  ],

  schemas: [
    ...owner('its owner makes in it what others then find'),
    ['added', always, review, 'a new place for tables and functions'],
    ['removed', always, review, 'all that was in it is gone'],
  ],

  relations: [
    ...owner('its owner may lift row security and grant; foreign-key actions run as the owner, past every policy'),
    ['added', isUnforced, dangerous, 'a table of tenants without row security, enabled and forced'],
    ['added', isUnwalled, dangerous, 'a table of tenants without the wall'],
    ['added', isOddMonth, dangerous, 'a partition by month that is not like the others'],
    ['added', is('security_invoker', false), dangerous, 'a view that asks as its owner, and not as its caller'],
    ['added', is('kind', 'materialized view'), dangerous, 'it keeps rows of all tenants, and has no row security'],
    ['added', is('row_security', false), review, 'who has a grant on it sees every row: it has no row security'],
    ['added', always, review, 'look at its policies and grants'],
    ['removed', always, review, 'its rows are gone'],
    ['row_security', becomes(true), safe, 'policies are asked from now on'],
    ['row_security', always, dangerous, 'no policy is asked any more'],
    ['forced', becomes(true), safe, 'the owner is bound, too'],
    ['forced', always, dangerous, 'the owner, and what runs as the owner, is not bound any more'],
    ['tenant_id', isUnwalled, dangerous, 'a table of tenants without the wall'],
    ['tenant_id', always, dangerous, 'what fills tenant_id decides whose a row is'],
    ['security_invoker', becomes(true), safe, 'the view asks as its caller'],
    ['security_invoker', always, dangerous, 'the view asks as its owner, and not as its caller'],
    ['kind', always, dangerous, 'its name stands for another kind of thing'],
    ['part_of', always, dangerous, 'its rows are read through another table, by the policies of that table'],
    ['*', always, review, 'what it shows may differ'],
  ],

  types: [
    ...owner('its owner may change what it accepts'),
    ['added', always, review, 'columns and functions may use it'],
    ['removed', always, review, 'what used it is gone, or uses another'],
  ],

  functions: [
    ...owner('it runs with the powers of its owner, who may replace it'),
    ['added', isUntrusted, dangerous, 'its language reaches the memory and the files of the server'],
    ['added', isLoose, dangerous, 'it runs as its owner, and finds names in the path of its caller'],
    ['added', is('leakproof', true), dangerous, 'a leakproof function is run on rows that its caller may not see'],
    ['added', always, review, 'look at what it does as its owner, and at who may execute it'],
    ['removed', always, review, 'what called it finds nothing, or another of the same name'],
    ['language', isUntrusted, dangerous, 'its language reaches the memory and the files of the server'],
    ['security', isLoose, dangerous, 'it runs as its owner, and finds names in the path of its caller'],
    ['settings', isLoose, dangerous, 'it runs as its owner, and finds names in the path of its caller'],
    ['leakproof', becomes(true), dangerous, 'a leakproof function is run on rows that its caller may not see'],
    ['leakproof', always, safe, 'it is run only on rows that its caller may see'],
    ['body', always, review, 'it does something else, with the powers of its owner'],
    ['*', always, review, 'it is called, or runs, in another way'],
  ],

  policies: [
    ['removed', isGone, safe, 'it went with its table'],
    ['removed', isWall, dangerous, 'nothing keeps the rows of tenants in this table apart'],
    ['removed', narrows, dangerous, 'what it kept back is not kept back any more'],
    ['removed', always, safe, 'what it let pass does not pass any more'],
    ['added', all(isWall, not(narrows)), dangerous, 'a wall that is permissive is none'],
    ['added', all(isKey, not(narrows)), dangerous, 'who reads the key makes a context for any tenant'],
    ['added', narrows, safe, 'it narrows, and nothing can widen it'],
    ['added', isBehindWall, review, 'it lets roles see or write more, within their tenant'],
    ['added', always, dangerous, 'it lets somebody see or write rows, and no wall stands before them'],
    ['*', isWall, dangerous, 'the wall is compared to the letter; what differs is not the wall'],
    ['kind', narrows, safe, 'it lets nothing pass any more, and narrows'],
    ['kind', always, dangerous, 'what narrowed now lets pass'],
    ['to', all(narrows, onlyGained), safe, 'it binds more roles'],
    ['to', narrows, dangerous, 'roles that it bound are free of it'],
    ['to', onlyLost, safe, 'it lets fewer roles pass'],
    ['for', all(narrows, becomes('all')), safe, 'it binds all commands'],
    ['for', narrows, dangerous, 'commands that it bound are free of it'],
    ['*', narrows, review, 'it may keep back less than it did'],
    ['*', isBehindWall, review, 'it may let roles see or write more, within their tenant'],
    ['*', always, dangerous, 'it may let somebody see or write more, and no wall stands before them'],
  ],

  triggers: [
    ['removed', isOfConstraint, safe, 'the constraint is enforced again'],
    ['added', isOfConstraint, dangerous, 'nothing enforces the constraint while its triggers are switched off'],
    ['removed', isGone, safe, 'it went with its table'],
    ['removed', isGuard, dangerous, 'changes are not audited, or a log can be changed'],
    ['removed', always, review, 'what it did is not done any more'],
    ['added', always, review, 'it runs in every write, also in those of foreign keys'],
    ['enabled', becomes('always'), safe, 'it runs in replica mode, too'],
    ['*', isGuard, dangerous, 'there may be writes that are not audited, or that change a log'],
    ['*', always, review, 'it does something else, or sleeps through some writes'],
  ],

  rules: [
    ['removed', isGone, safe, 'it went with its table'],
    ['removed', always, review, 'statements mean something else without it'],
    ['added', always, dangerous, 'it rewrites statements, which then run with the rights of the owner'],
    ['*', always, dangerous, 'it rewrites statements, which then run with the rights of the owner'],
  ],

  grants: [
    ...privileges,
    ['added', isKey, dangerous, 'who reads the key makes a context for any tenant'],
    ['added', isTo('truncate', 'references', 'trigger'), dangerous, 'it goes past policies'],
    [
      'added',
      all(toReachable, isTo('create', 'temporary')),
      dangerous,
      'what it makes stands in front of what others mean',
    ],
    ['added', all(toReachable, isOfSystem), dangerous, 'it reaches beyond the tables of this database'],
    ['added', all(toReachable, writesTenant), dangerous, 'who writes tenant_id decides whose a row is'],
    ['added', isOfEngine, review, 'these tables are the job engine’s, which only it reaches'],
    [
      'added',
      all(toReachable, onPart),
      dangerous,
      'a partition that is read by itself is read past its parent’s policies',
    ],
    ['added', all(toReachable, onKind('materialized view')), dangerous, 'it keeps rows of all tenants'],
    ['added', all(toReachable, onKind('sequence')), dangerous, 'a sequence counts what all tenants do'],
    ['added', all(toReachable, onOwnersView), dangerous, 'the view asks as its owner, and not as its caller'],
    ['added', all(toReachable, onUnwalled), dangerous, 'no wall stands between this role and the rows'],
    ['added', all(toReachable, onDoor), dangerous, 'who calls it says which tenant it is about'],
    ['added', toReachable, review, 'somebody who logs in can do more'],
    ['added', always, review, 'functions that run as this role can do more'],
  ],

  default_privileges: [
    ...privileges,
    ['added', toReachable, dangerous, 'what comes to be is granted without anybody deciding it'],
    ['added', always, review, 'functions that run as this role can do more'],
  ],
}
