/**
 * What the attacks try to break, in words, as the names of laws are: each says what must be so, why it matters, and the
 * SQL that makes it so again. Where a law is broken by the same object, the law's SQL is given instead.
 */

type Rule = {
  why: string
  /** `role` is one that broke it; `decide` is the line that says what to choose where no SQL is right by itself. */
  mend(object: string, role: string): string
}

const decide = (what: string, sql: string): string => `-- decide: ${what}\n${sql}`

const standing = (object: string, role: string) =>
  decide(
    'every law holds here, so look at what the role may become, at app.tenant_id() and at what the wall lists; until then:',
    `revoke all on ${object} from ${role};`,
  )

export const rules = {
  no_role_reads_a_row_of_another_tenant: {
    why: 'A row that one tenant reads of another is the breach that everything here is against.',
    mend: standing,
  },
  no_role_writes_a_row_of_another_tenant: {
    why: 'A statement that reaches a row of another tenant changes or destroys it; where only a trigger stopped it, one wall is left.',
    mend: standing,
  },
  no_owner_goes_past_the_wall: {
    why: 'Views, functions and foreign-key actions of the owner act as the owner: what it sees, they show.',
    mend: (object) => `alter table ${object} enable row level security, force row level security;`,
  },
  no_row_refers_to_a_row_of_another_tenant: {
    why: 'A reference across tenants is accepted with row security off: it tells that the row exists, and what is done to the one is done to the other.',
    mend: (object) =>
      decide(
        'the reference needs tenant_id on both sides:',
        `alter table ${onOf(object)} drop constraint ${nameOf(object)};`,
      ),
  },
  no_value_tells_of_another_tenant: {
    why: 'A value that is refused because another tenant has it tells that the other has it.',
    mend: (object) => decide('the key needs tenant_id in it:', `drop index ${nameOf(object)};  -- on ${onOf(object)}`),
  },
  no_write_waits_for_another_tenant: {
    why: 'A tenant that keeps a transaction open would hold up the writes of the others.',
    mend: (object) =>
      decide('find the unique key without tenant_id:', `select * from pg_indexes where tablename = '${object}';`),
  },
  no_error_tells_of_another_tenant: {
    why: 'What an error says reaches the one who asked: a value in it, or a difference between a row that is hidden and one that is not there, is knowledge.',
    mend: standing,
  },
  no_statistics_tell_of_another_tenant: {
    why: 'Statistics hold values of rows, the most frequent ones first; they are hidden only where row security binds the one who asks.',
    mend: (object) => `alter table ${object} enable row level security, force row level security;`,
  },
  no_view_tells_of_another_tenant: {
    why: 'A view that runs as its owner, or has stored what it shows, asks no policy of the one who reads it.',
    mend: (object, role) =>
      decide('it may be made to ask as its caller; until then:', `revoke all on ${object} from ${role};`),
  },
  no_function_tells_of_another_tenant: {
    why: 'A definer function sees what its owner sees. What it answers must not depend on the rows of a tenant that was not entered.',
    mend: (object, role) =>
      decide(
        'where it is a door, it is listed in src/prove/doors.ts; else:',
        `revoke execute on routine ${object} from public, ${role};`,
      ),
  },
  no_function_opens_another_tenant: {
    why: 'After this call the transaction is in a tenant that nobody entered: every wall lets it through.',
    mend: (object, role) =>
      decide(
        'where it is a door, it is listed in src/prove/doors.ts; else:',
        `revoke execute on routine ${object} from public, ${role};`,
      ),
  },
  no_function_writes_to_another_tenant: {
    why: 'A definer function writes what its owner may write; the audit log shows that it wrote to a tenant that was not entered.',
    mend: (object, role) => `revoke execute on routine ${object} from public, ${role};`,
  },
  no_context_is_forged: {
    why: 'Whoever makes a context that passes for genuine is in any tenant they like.',
    mend: () =>
      decide(
        'app.context() must compare the seal, and nobody but app_gate may read the key; then another key takes its place:',
        'select app.make_context_key(true);',
      ),
  },
  no_role_may_what_no_policy_asks: {
    why: 'TRUNCATE, REFERENCES, TRIGGER, ownership, objects of its own and powers of the server go past every policy.',
    mend: (object, role) =>
      object === 'temporary tables'
        ? `do $$ begin execute format('revoke temporary on database %I from public, ${role}', current_database()); end $$;`
        : object.startsWith('schema ')
          ? `revoke create on ${object} from public, ${role};`
          : object.startsWith('role ')
            ? decide(
                'take from it what it has:',
                `alter ${object} nosuperuser nobypassrls nocreaterole nocreatedb noreplication;`,
              )
            : `revoke all on ${object} from public, ${role};`,
  },
  no_role_becomes_another: {
    why: 'SET ROLE gives a role all that the other one has, and nobody who reads grants sees it there.',
    mend: (_object, role) =>
      decide(
        'take the memberships back:',
        `select roleid::regrole from pg_auth_members where member = '${role}'::regrole;`,
      ),
  },
  no_sequence_is_read: {
    why: 'A sequence counts the rows of all tenants.',
    mend: (object, role) => `revoke all on sequence ${object} from public, ${role};`,
  },
  no_write_goes_unrecorded: {
    why: 'A change that leaves no line in the audit log cannot be answered for.',
    mend: (object) => `select app.audit_table('${object}');`,
  },
} as const satisfies Record<string, Rule>

export type RuleName = keyof typeof rules

/** Not broken, but not proved either. */
export const gaps = {
  every_table_is_attacked_with_rows: {
    why: 'An attack on a table without a row of another tenant proves nothing.',
    mend: (object: string) =>
      decide(
        'make two tenants with a row each, or a check that a made-up row can satisfy:',
        `select * from ${object} limit 1;`,
      ),
  },
  every_role_is_attacked: {
    why: 'A role that nobody acted as was not attacked.',
    mend: (object: string) => `grant ${object} to current_user;  -- as whoever has ADMIN on it, or a superuser`,
  },
  every_attempt_is_answered: {
    why: 'An attempt that failed for a reason of its own, was cancelled or had to wait says nothing about the wall.',
    mend: () =>
      decide('run it again when nothing holds the table; if it stays, the message says why', '-- nothing to run'),
  },
  something_is_seen: {
    why: 'Where not even its own rows are seen, seeing no others proves nothing.',
    mend: () => decide('look at the policies of the login roles, and at app.seal()', 'select * from pg_policies;'),
  },
} as const

export type GapName = keyof typeof gaps

// Keys and references are named `key on schema.table`

const nameOf = (object: string): string => object.split(' on ')[0] ?? object
const onOf = (object: string): string => object.split(' on ')[1] ?? object
