/**
 * Trying many statements as somebody else, and undoing each. They run inside an anonymous block of PL/pgSQL, every one in
 * a subtransaction of its own that ends in an error: so nothing stays, nothing reaches the server's log, and hundreds of
 * them cost one round trip. Answers come back as notices.
 */
import pg from 'pg'

export type Attempt = {
  sql: string
  /** The first column of the first row is wanted, as text; otherwise the number of rows. */
  text?: boolean
  /** Done right before it, as the same role: a setting of its own. */
  before?: string
  /** Asked right behind it, before it is undone, as `role` (null: who we are); its first column, as text. */
  after?: { role: string | null; sql: string }
}

export type Outcome =
  | { ok: true; rows: number; text: string | null; after: string | null }
  | { ok: false; code: string; message: string }

/** Attempts that are made as one role under the same settings. Null: as who we are. */
export type Group = { role: string | null; settings: Readonly<Record<string, string>>; attempts: readonly Attempt[] }

/** How a group ended before its first attempt: the role could not be taken, or a setting not be set. */
export class GroupRefused extends Error {}

/** Milliseconds that one attempt may take at most; in production nobody is to wait for us. */
const ATTEMPT_LIMIT = 5_000
const BATCH = 400

/** Outcomes in the order of the attempts. Needs a transaction; leaves it, and who we are in it, as it was. */
export async function attempt(client: pg.ClientBase, { role, settings, attempts }: Group): Promise<readonly Outcome[]> {
  const outcomes: Outcome[] = []
  for (let from = 0; from < attempts.length; from += BATCH) {
    outcomes.push(...(await batch(client, role, settings, attempts.slice(from, from + BATCH))))
  }
  return outcomes
}

/** A statement that is cancelled, or kills the block otherwise, takes the whole block with it: halves find out which. */
async function batch(
  client: pg.ClientBase,
  role: string | null,
  settings: Group['settings'],
  attempts: readonly Attempt[],
): Promise<readonly Outcome[]> {
  try {
    const block = blockOf(role, settings, attempts)
    const outcomes = await ask<unknown[]>(
      client,
      `savepoint prove_attempts; ${block}; release savepoint prove_attempts`,
    )
    return outcomes.map(toOutcome)
  } catch (error) {
    await client.query('rollback to savepoint prove_attempts; release savepoint prove_attempts')
    if (!(error instanceof pg.DatabaseError)) throw error
    if (error.code === REFUSED) throw new GroupRefused(error.message)
    if (attempts.length === 1) return [{ ok: false, code: error.code ?? '', message: error.message }]
    const half = Math.ceil(attempts.length / 2)
    return [
      ...(await batch(client, role, settings, attempts.slice(0, half))),
      ...(await batch(client, role, settings, attempts.slice(half))),
    ]
  }
}

const toOutcome = (answer: unknown[]): Outcome => {
  const [first, second, third] = answer as [number | string, string | null, string | null]
  if (typeof first === 'number') return { ok: true, rows: first, text: second, after: third }
  return { ok: false, code: first, message: second ?? '' }
}

/** Runs a block that raises one notice, JSON, and answers what is in it. */
export async function ask<T>(client: pg.ClientBase, text: string): Promise<T[]> {
  const answers: T[] = []
  const onNotice = ({ message }: { message?: string | undefined }) => {
    if (message?.startsWith(MARK)) answers.push(...(JSON.parse(message.slice(MARK.length)) as T[]))
  }
  client.on('notice', onNotice)
  try {
    await client.query(text)
  } finally {
    client.removeListener('notice', onNotice)
  }
  return answers
}

export const MARK = 'prove: '
/** Raised to undo what was done; five characters that nothing else raises. */
const UNDO = 'PVUND'
const REFUSED = 'PVREF'

export const setRole = (role: string | null): string =>
  `set local role ${role === null ? 'none' : pg.escapeIdentifier(role)}`

/** A statement for each, since a name may have dots in it. */
export const setLocal = (settings: Readonly<Record<string, string>>): string[] =>
  Object.entries(settings).map(
    ([name, value]) => `set local ${name.split('.').map(pg.escapeIdentifier).join('.')} = ${pg.escapeLiteral(value)}`,
  )

const blockOf = (role: string | null, settings: Group['settings'], attempts: readonly Attempt[]): string => {
  const json = (value: unknown) => pg.escapeLiteral(JSON.stringify(value))
  const prepare = [...setLocal(settings), setRole(role)]
  return `
set local statement_timeout = ${Math.max(ATTEMPT_LIMIT, 20 * attempts.length)};
do $prove$
declare
  v_prepare constant text[] := array(select jsonb_array_elements_text(${json(prepare)}));
  v_sql     constant text[] := array(select jsonb_array_elements_text(${json(attempts.map(({ sql }) => sql))}));
  v_text    constant text   := '${attempts.map(({ text }) => (text ? '1' : '0')).join('')}';
  v_before  constant jsonb  := ${json(attempts.map(({ before }) => before ?? null))};
  v_after   constant jsonb  := ${json(attempts.map(({ after }) => (after ? [setRole(after.role), after.sql] : null)))};
  v_out     text[] := '{}';
  v_rows    bigint;
  v_answer  text;
  v_seen    text;
  v_state   text;
  v_message text;
  v_more    text;
  v_hint    text;
begin
  begin
    for i in 1 .. cardinality(v_prepare) loop
      execute v_prepare[i];
    end loop;
  exception when others then
    raise exception '%', sqlerrm using errcode = '${REFUSED}';
  end;
  for i in 1 .. cardinality(v_sql) loop
    v_answer := null;
    v_seen   := null;
    begin
      if v_before -> (i - 1) <> 'null' then
        execute v_before ->> (i - 1);
      end if;
      if substr(v_text, i, 1) = '1' then
        execute v_sql[i] into v_answer;
      else
        execute v_sql[i];
      end if;
      get diagnostics v_rows = row_count;
      if v_after -> (i - 1) <> 'null' then
        execute v_after -> (i - 1) ->> 0;
        execute v_after -> (i - 1) ->> 1 into v_seen;
      end if;
      raise exception using errcode = '${UNDO}';
    exception when others then
      get stacked diagnostics v_state = returned_sqlstate, v_message = message_text, v_more = pg_exception_detail, v_hint = pg_exception_hint;
      v_out := v_out || case when v_state = '${UNDO}' then json_build_array(v_rows, v_answer, v_seen)
                             else json_build_array(v_state, concat_ws(' ', v_message, nullif(v_more, ''), nullif(v_hint, ''))) end::text;
    end;
  end loop;
  ${setRole(null)};
  raise notice '${MARK}%', '[' || array_to_string(v_out, ',') || ']';
end $prove$`
}
