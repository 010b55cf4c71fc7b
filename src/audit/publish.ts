/** Checkpoints on their way out: what the owner of the database cannot take back. */
import { createHash } from 'node:crypto'
import type pg from 'pg'
import { statement } from '../db/pool.ts'
import { type Sink, streamName } from './sinks.ts'

const SEALS_AT_ONCE = 1_000

type Row = { position: string; tenant_id: string; batch: string; note: string }

/**
 * Hands every seal that is not there yet to `sink`, in order, as files of lines `{"tenant_id", "batch", "checkpoint"}`. After
 * a crash some are handed over again. A file's name has the hash of what is in it, so nothing is ever written over: when
 * the database is set back and seals anew, both versions are kept.
 */
export const publishCheckpoints = async (pool: pg.Pool, sink: Sink, signal: AbortSignal): Promise<void> => {
  const stream = streamName('checkpoints', sink)
  while (!signal.aborted) {
    const { rows } = await pool.query<Row>(
      statement(
        'select s.position, s.tenant_id, s.batch, s.note from app.audit_seals_after(app.audit_stream_position($1), $2) s',
        [stream, SEALS_AT_ONCE],
      ),
    )
    const [first, last] = [rows[0], rows.at(-1)]
    if (!first || !last) return

    const lines = rows.map(({ tenant_id, batch, note }) =>
      JSON.stringify({ tenant_id, batch: Number(batch), checkpoint: note }),
    )
    const content = `${lines.join('\n')}\n`
    await sink.put(fileName(first, content), content)
    await pool.query(
      statement('select app.advance_audit_stream($1, $2, $3)', [stream, Number(first.position) - 1, last.position]),
    )
    if (rows.length < SEALS_AT_ONCE) return
  }
}

/** `2026-03-01/0000000000004711-0123456789abcdef.ndjson`: the day and the position of its first seal, and the hash. */
const fileName = ({ position, note }: Row, content: string): string => {
  const day = /^sealed (.{10})/m.exec(note)?.[1]
  const hash = createHash('sha256').update(content).digest('hex').slice(0, 16)
  return `${day}/${position.padStart(16, '0')}-${hash}.ndjson`
}
