import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type Checkpoint,
  formatCheckpoint,
  formatNote,
  parseCheckpoint,
  parseNote,
  publicKeyOf,
  signText,
} from '../../src/audit/checkpoint.ts'
import { readKeys } from '../../src/audit/files.ts'
import { linesOf } from '../../src/audit/lines.ts'
import type { Finding } from '../../src/audit/verify.ts'
import { type Verified, verifyExport } from '../../src/audit/verify-export.ts'
import { makeSigner } from './seals.ts'
import { auditStage } from './stage.ts'

const it = auditStage()
let folder: string
let lines: string[]
let notes: string[]
let foreign: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'verify-'))
  for (let n = 0; n < 6; n++) {
    await it.write(it.acme, 2 + n)
    await it.write(it.globex)
    await it.seal()
  }
  lines = await exportOf(it.acme)
  foreign = (await exportOf(it.globex))[0] ?? ''
  const { rows } = await it.superuser.query(
    'select app.checkpoint_note(s) as note from app.audit_seals s where tenant_id = $1 order by batch',
    [it.acme],
  )
  notes = rows.map(({ note }) => note)
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** With the address of each opened. */
const exportOf = async (tenant: string): Promise<string[]> => {
  const { rows } = await it.superuser.query<{ line: string }>(
    `select '{"personal": ' || case when l.address is null then '{}' else jsonb_build_object('address', jsonb_build_object(
              'value', app.reveal(k.key, 'address', l.address), 'key', encode(k.key, 'hex')))::text end
            || ', "entry": ' || app.audit_entry(l) || '}' as line
       from app.audit_log l
       left join lateral (select sha256(p.key || uuid_send(l.id)) as key from app.personal_keys p
                           where p.subject_id = coalesce(l.actor_id, l.tenant_id)) k on true
      where l.tenant_id = $1 order by l.xact, l.id`,
    [tenant],
  )
  return rows.map(({ line }) => line)
}

let files = 0
const put = async (content: string): Promise<string> => {
  const file = join(folder, `${++files}`)
  await writeFile(file, content)
  return file
}

type Given = { lines?: string[]; notes?: string[]; checkpoints?: string[]; keys?: ReturnType<typeof publicKeyOf>[] }

const verified = async ({
  lines: given = lines,
  notes: some = notes,
  checkpoints,
  keys = [publicKeyOf(it.signer)],
}: Given) => {
  const findings: Finding[] = []
  const source = {
    file: await put(`${given.join('\n')}\n`),
    checkpoints: checkpoints ?? [await put(some.join('\n'))],
    keys,
  }
  const totals: Verified = await verifyExport(source, (finding) => {
    findings.push(finding)
  })
  return { totals, findings: findings.map(({ tenantId, ...rest }) => ({ ...rest, acme: tenantId === it.acme })) }
}

const findingsOf = async (given: Given) => (await verified(given)).findings

/** The batch of a line. */
const batchOf = (line: string): number => {
  const { xact } = JSON.parse(line).entry
  const found = notes.map((note) => parseCheckpoint(parseNote(note)?.text ?? '') as Checkpoint)
  return found.find(({ fromXact, toXact }) => fromXact <= xact && xact < toXact)?.batch ?? 0
}

const found = (batch: number | null, problem: string, detail: string | RegExp = /./) => ({
  ...{ acme: true, batch, problem },
  detail: expect.stringMatching(detail),
})

test('a whole export is good, to its last entry', async () => {
  const { totals, findings } = await verified({})
  expect(findings).toEqual([])
  expect(totals).toMatchObject({ tenantId: it.acme, batches: 6, verified: lines.length, unsealed: 0 })
  expect(lines[0]).toMatch(/^\{"personal": \{.*\}, "entry": \{"v": 1, /)
})

describe('entries', () => {
  test('one that is missing', async () => {
    for (const at of [0, 9, lines.length - 1]) {
      const line = lines[at] as string
      expect(await findingsOf({ lines: lines.filter((each) => each !== line) })).toEqual([
        found(batchOf(line), 'entry_missing', /^1 of its \d+ entries is missing/),
      ])
    }
  })

  test('one that says something else, in any byte', async () => {
    for (const at of [1, 10, lines.length - 2]) {
      const line = lines[at] as string
      const changed = lines.map((each) =>
        each === line ? each.replace('"action": "insert"', '"action": "delete"') : each,
      )
      expect(changed).not.toEqual(lines)
      expect(await findingsOf({ lines: changed })).toEqual([found(batchOf(line), 'entry_changed')])
      const spaced = lines.map((each) => (each === line ? each.replace('"v": 1, ', '"v": 1,  ') : each))
      expect(await findingsOf({ lines: spaced })).toEqual([found(batchOf(line), 'entry_changed')])
    }
  })

  test('one too many', async () => {
    const line = lines[8] as string
    const { id } = JSON.parse(line).entry
    const copy = line.replaceAll(id, `${id.slice(0, -4)}${id.endsWith('ffff') ? '0000' : 'ffff'}`)
    expect(await findingsOf({ lines: lines.toSpliced(9, 0, copy) })).toContainEqual(
      found(batchOf(line), expect.stringMatching(/entry_extra/)),
    )
    expect(await findingsOf({ lines: lines.toSpliced(8, 0, line) })).toEqual([
      found(batchOf(line), 'entry_misplaced', id),
      found(batchOf(line), 'entry_extra', /^1 entry too many/),
    ])
  })

  test('two that have changed places', async () => {
    const swapped = lines.with(4, lines[5] as string).with(5, lines[4] as string)
    expect(await findingsOf({ lines: swapped })).toContainEqual(found(expect.any(Number), 'entry_misplaced'))
  })

  test('one between two batches', async () => {
    const gap = notes
      .map((note) => parseCheckpoint(parseNote(note)?.text ?? '') as Checkpoint)
      .find(({ fromXact }, index, all) => index > 0 && fromXact > (all[index - 1] as Checkpoint).toXact)
    const { toXact: xact, batch } = gap ? { toXact: gap.fromXact - 1, batch: gap.batch } : { toXact: 1, batch: 1 }
    const line = (lines[0] as string).replace(/"xact": \d+/, `"xact": ${xact}`)
    const sorted = [...lines, line].sort((a, b) => JSON.parse(a).entry.xact - JSON.parse(b).entry.xact)
    expect(await findingsOf({ lines: sorted })).toContainEqual(found(batch, 'entry_extra'))
  })

  test('of another tenant', async () => {
    expect(await findingsOf({ lines: [...lines, foreign] })).toEqual([
      found(null, 'entry_extra', `line ${lines.length + 1} is an entry of another tenant`),
    ])
  })

  test.each(['nonsense', '{}', '[]', '{"personal": {}, "entry": {}}', '{"personal": {}, "entry": {"id": 1}} '])(
    'that cannot be read: %s',
    async (line) => {
      expect(await findingsOf({ lines: [line, ...lines] })).toEqual([found(null, 'entry_unreadable', /^line 1 /)])
    },
  )

  test('an end that is cut off, and an export of nothing', async () => {
    const last = batchOf(lines.at(-1) as string)
    expect(await findingsOf({ lines: lines.filter((line) => batchOf(line) < last - 1) })).toEqual([
      found(last - 1, 'log_shortened', /ends before it; checkpoints reach to batch 6/),
    ])
    expect(await findingsOf({ lines: [] })).toEqual([found(1, 'log_shortened')])
  })

  test('what comes after the last checkpoint is counted, and no fault', async () => {
    const { totals, findings } = await verified({ notes: notes.slice(0, 4) })
    const later = lines.filter((line) => batchOf(line) > 4).length
    expect(findings).toEqual([])
    expect(totals).toMatchObject({ verified: lines.length - later, unsealed: later })
  })
})

const EMPTIED = '{"personal": {}, "entry"'

test('a copy that was converted as text is no log that was shortened', async () => {
  const read = async (content: string | Buffer) => {
    const file = join(folder, `copy-${++files}`)
    await writeFile(file, content)
    const checkpoints = [await put(notes.join(''))]
    return verifyExport({ file, checkpoints, keys: [publicKeyOf(it.signer)] }, () => {})
  }
  const text = `${lines.join('\n')}\n`
  await expect(read(text.replaceAll('\n', '\r\n'))).rejects.toThrow('is not as it was exported: its lines end in CR LF')
  await expect(read(`\uFEFF${text}`)).rejects.toThrow('it begins with a byte order mark')
  await expect(read(Buffer.from(`\uFEFF${text}`, 'utf16le'))).rejects.toThrow('it is in UTF-16')
  await expect(read('xact,id,at\r\n')).rejects.toMatchObject({ name: 'UnreadableFile' })
  await expect(read('xact,id,at\n1,2,3\n')).rejects.toThrow('is no export as JSON lines')
})

test('what is behind the last checkpoint, and says it was written long before it, is found', async () => {
  const last = JSON.parse(lines.at(-1) as string).entry
  const behind = (id: string, at: string) =>
    (lines.at(-1) as string)
      .replace(last.id, id)
      .replace(last.at, at)
      .replace(/"xact": \d+/, `"xact": ${last.xact + 1_000_000}`)
  const [later, hours] = [last.id.replace(/....$/, 'ffff'), 3 * 3_600_000]
  const idOf = (ms: number) =>
    ms
      .toString(16)
      .padStart(12, '0')
      .replace(/^(.{8})(.{4})$/, '$1-$2-7000-8000-000000000000')
  const long = new Date(Date.parse(last.at) - hours).toISOString()
  const short = new Date(Date.parse(last.at) - 60_000).toISOString()
  const verdict = (id: string, at: string) =>
    verified({
      lines: [
        ...lines.map((line) => line.replace(/^\{"personal": \{.*\}, "entry"/, EMPTIED)),
        behind(id, at).replace(/^\{"personal": \{.*\}, "entry"/, EMPTIED),
      ],
    })

  for (const [id, at] of [
    [idOf(Date.parse(last.at) - hours), long],
    [idOf(Date.parse(last.at) - hours), last.at],
    [later, long],
    [later, 'no time'],
  ] as const) {
    expect((await verdict(id, at)).findings, `${id} ${at}`).toEqual([
      found(null, 'entry_late', new RegExp(`^1 entry behind .* The first is ${id}$`)),
    ])
  }
  for (const [id, at] of [
    [later, last.at],
    [idOf(Date.parse(last.at) - 60_000), short],
  ] as const) {
    expect(await verdict(id, at), `${id} ${at}`).toMatchObject({ findings: [], totals: { unsealed: 1 } })
  }
})

describe('what is said beside an entry', () => {
  const replaced = async (from: RegExp, to: string) =>
    findingsOf({ lines: lines.map((line, at) => (at === lines.length - 1 ? line.replace(from, to) : line)) })

  test('is found false when the entry holds another value', async () => {
    expect(await replaced(/"value": "192\.0\.2\.7"/, '"value": "192.0.2.8"')).toEqual([
      found(6, 'opening_false', 'address'),
    ])
    expect(await replaced(/"key": "[0-9a-f]{2}/, '"key": "zz')).toEqual([found(6, 'opening_false', 'address')])
  })

  test('may be left out: somebody may have been erased', async () => {
    const personal = /^\{"personal": \{.*\}, "entry"/
    const left = lines.map((line, at) => (at % 2 === 0 ? line.replace(personal, EMPTIED) : line))
    expect(await replaced(personal, EMPTIED)).toEqual([])
    // and nobody can tell: so it is counted
    const changed = left.filter((line, at) => line !== lines[at]).length
    expect(changed).toBeGreaterThan(0)
    expect(await verified({ lines: left })).toMatchObject({ findings: [], totals: { unopened: changed } })
    expect((await verified({})).totals.unopened).toBe(0)
  })
})

describe('checkpoints', () => {
  test('one that is missing', async () => {
    expect(await findingsOf({ notes: notes.toSpliced(2, 2) })).toEqual([
      found(3, 'checkpoint_missing', /^batches 3 to 4 are not among/),
      found(5, 'entry_extra', /are in no batch/),
    ])
  })

  test('one that was changed, in any line', async () => {
    const lineOf = (note: string) => note.split('\n')
    const original = notes[2] as string
    for (const [index, line] of lineOf(original).entries()) {
      if (!/\d/.test(line)) continue
      const changed = lineOf(original).with(
        index,
        line.replace(/\d(?=\D*$)/, (digit) => String((Number(digit) + 1) % 10)),
      )
      const findings = await findingsOf({ notes: notes.with(2, changed.join('\n')) })
      expect(findings.length, line).toBeGreaterThan(0)
    }
  })

  test('one under another key', async () => {
    const thief = makeSigner(it.signer.id)
    const text = parseNote(notes[2] as string)?.text ?? ''
    const forged = formatNote(text, thief.id, signText(text, thief))
    expect(await findingsOf({ notes: notes.with(2, forged) })).toEqual([found(3, 'signature_unknown')])
    expect((await findingsOf({ keys: [publicKeyOf(thief)] })).map(({ batch }) => batch)).toEqual([1, 2, 3, 4, 5, 6])
  })

  test('one with a signature of another', async () => {
    const swapped = (notes[2] as string).replace(/— .*/s, /— .*/s.exec(notes[3] as string)?.[0] ?? '')
    expect(await findingsOf({ notes: notes.with(2, swapped) })).toEqual([found(3, 'signature_bad')])
  })

  /** What only who has the key could do. */
  const resealed = (batch: number, change: Partial<Checkpoint>): string => {
    const checkpoint = parseCheckpoint(parseNote(notes[batch - 1] as string)?.text ?? '') as Checkpoint
    const text = formatCheckpoint({ ...checkpoint, ...change })
    return formatNote(text, it.signer.id, signText(text, it.signer))
  }

  test('two for one batch', async () => {
    const other = resealed(4, { sealedAt: '2020-01-01T00:00:00.000000Z' })
    expect(await findingsOf({ notes: [...notes, other] })).toEqual([found(4, 'chain_forked')])
    expect(await findingsOf({ notes: [...notes, ...notes] })).toEqual([])
  })

  test('one that does not continue the one before', async () => {
    const broken = async (change: Partial<Checkpoint>) => findingsOf({ notes: notes.with(3, resealed(4, change)) })
    expect(await broken({ previous: Buffer.alloc(32) })).toContainEqual(found(4, 'chain_broken', /name the hash/))
    expect(await broken({ total: 4711 })).toContainEqual(found(4, 'chain_broken', /counts 4711 entries in all/))
    expect(await broken({ fromXact: 3 })).toContainEqual(found(4, 'chain_broken', /do not follow on/))
    expect(await broken({ eraFrom: '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11' })).toContainEqual(
      found(expect.any(Number), 'chain_broken', /era 1 begins with/),
    )
    expect(await broken({ era: 0 })).toContainEqual(found(4, 'chain_broken', /its era is over/))
  })

  test('a chain that was made anew does not hold those that were kept', async () => {
    const kept = [await put(notes[4] as string)]
    const anew = [...notes.slice(0, 3), resealed(4, { sealedAt: '2020-01-01T00:00:00.000000Z' })]
    const findings = await findingsOf({ checkpoints: [await put(anew.join('\n')), ...kept] })
    expect(findings).toContainEqual(found(5, 'chain_broken', /name the hash/))
  })

  test('nonsense among them', async () => {
    expect(await findingsOf({ notes: [...notes, 'nonsense\n'] })).toContainEqual(
      expect.objectContaining({ problem: 'checkpoint_unreadable' }),
    )
  })

  test.each([
    ['an answer of the API', () => JSON.stringify(page(notes.toReversed()))],
    ['an answer that was formatted', () => JSON.stringify(page(notes), null, 2)],
    [
      'answers, one a line',
      () => [notes.slice(3), notes.slice(0, 3)].map((part) => JSON.stringify(page(part))).join('\n'),
    ],
    ['checkpoints, one a line', () => notes.map((note) => JSON.stringify(answerOf(note))).join('\n')],
    [
      'an export with checkpoints in it',
      () => [...lines, ...notes.map((checkpoint) => JSON.stringify({ checkpoint }))].join('\n'),
    ],
    ['notes, one behind the other', () => notes.join('')],
    ['notes with empty lines between', () => notes.join('\n\n')],
  ])('may come as %s', async (_form, write) => {
    expect(await findingsOf({ checkpoints: [await put(write())] })).toEqual([])
  })

  /** As the API answers a checkpoint, and a file of those that were kept has it. */
  const answerOf = (checkpoint: string) => {
    const { text, signatures } = parseNote(checkpoint) ?? { text: '', signatures: [] }
    const it = parseCheckpoint(text) as Checkpoint
    return {
      ...{ id: '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11', tenant_id: it.tenantId, batch: it.batch, kind: it.kind },
      ...{ month: it.month, era: it.era, from_xact: it.fromXact, to_xact: it.toXact },
      ...{ entries: it.entries, total: it.total, root: it.root.toString('hex'), previous: it.previous.toString('hex') },
      ...{ sealed_at: it.sealedAt.replace(/\.?0*Z$/, 'Z'), key_id: signatures[0]?.keyId, checkpoint },
    }
  }
  const page = (some: string[]) => ({ data: some.map(answerOf), next_cursor: null })

  test('what stands beside one is what it says, field by field', async () => {
    const others = {
      ...{ tenant_id: '01997b0e-7a2c-7cc3-a1de-6b4d2f0c9e11', batch: 4, kind: 'retired', month: '2020-01', era: 2 },
      ...{ from_xact: 1, to_xact: '9', entries: 0, total: null, root: '00'.repeat(32), previous: 'ff'.repeat(32) },
      ...{ sealed_at: '2020-01-01T00:00:00Z', key_id: 'other' },
    }
    const { id, checkpoint, ...answered } = answerOf(notes[2] as string)
    expect(Object.keys(others)).toEqual(Object.keys(answered))
    for (const [field, value] of Object.entries(others)) {
      const { data } = page(notes)
      const changed = { data: data.with(2, { ...answerOf(notes[2] as string), [field]: value }) }
      const again = await put(JSON.stringify(changed))
      const finding = found(3, 'checkpoint_false', `beside it as ${field} is`)
      expect(await findingsOf({ checkpoints: [again] }), field).toEqual([finding])
      // also when the same checkpoint was read already
      expect(await findingsOf({ checkpoints: [await put(notes.join('')), again] }), field).toEqual([finding])
    }
  })

  test('and may stand among the lines of the export', async () => {
    const mixed = lines.flatMap((line, at) =>
      at % 5 === 0 ? [`{"checkpoint": ${JSON.stringify(notes[0])}}`, line] : [line],
    )
    expect(await findingsOf({ lines: mixed })).toEqual([])
  })

  test('none at all, or something else, is said', async () => {
    const refusal = (content: string) =>
      verified({ checkpoints: [] })
        .catch(() => put(content))
        .then((file) => verified({ checkpoints: [file as string] }))
    for (const content of ['', '{}', '{"data": [{}]}']) {
      await expect(refusal(content)).rejects.toMatchObject({ name: 'UnreadableFile' })
    }
    await expect(verified({ checkpoints: [join(folder, 'absent')] })).rejects.toThrow('cannot be read (ENOENT)')
  })
})

describe('the key', () => {
  const jwk = () => ({ ...it.signer.publicKey.export({ format: 'jwk' }), kid: it.signer.id })

  test.each<[string, () => string]>([
    ['a JWK', () => JSON.stringify(jwk())],
    [
      'a JWK set',
      () => JSON.stringify({ keys: [{ ...makeSigner().publicKey.export({ format: 'jwk' }), kid: 'other' }, jwk()] }),
    ],
    ['an array of JWKs', () => JSON.stringify([jwk()])],
    ['PEM', () => it.signer.publicKey.export({ format: 'pem', type: 'spki' }).toString()],
  ])('may come as %s', async (_form, write) => {
    const keys = readKeys(await put(write()))
    expect(await findingsOf({ keys: keys as ReturnType<typeof publicKeyOf>[] })).toEqual([])
  })

  test('that is private is refused, and not shown', async () => {
    for (const secret of [
      JSON.stringify({ ...it.signer.privateKey.export({ format: 'jwk' }), kid: 'x' }),
      it.signer.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
    ]) {
      const file = await put(secret)
      expect(() => readKeys(file)).toThrow(`${file} holds a private key: it belongs to the worker alone`)
    }
  })

  test.each(['', 'nonsense', '{}', '[]', 'null', '{"keys": []}', '{"kty": "RSA"}'])(
    'that is none: %s',
    async (content) => {
      const file = await put(content)
      expect(() => readKeys(file)).toThrow(`${file} holds no public Ed25519 key`)
    },
  )

  test('of another kind is none', async () => {
    const { publicKey } = generateKeyPairSync('x25519')
    const file = await put(publicKey.export({ format: 'pem', type: 'spki' }).toString())
    expect(() => readKeys(file)).toThrow('no public Ed25519 key')
  })
})

test('a file is read in parts: what is at their edges is whole', async () => {
  const many: string[] = []
  while (many.length * (lines[0] as string).length < 3 << 20) many.push(...lines)
  for (const end of ['', '\n']) {
    const read: string[] = []
    for await (const { bytes, bounds } of linesOf(await put(many.join('\n') + end))) {
      for (const [from, to] of bounds) read.push(bytes.toString('utf8', from, to))
    }
    expect(read).toEqual(many)
  }
})
