/** The report as text: counts in columns, then each finding with what to do about it. For a terminal 120 columns wide. */
import { describeMissing } from '../db/check.ts'
import { contextMeanings, contextNames } from './contexts.ts'
import { inventoryKinds } from './inventory.ts'
import { type Finding, plural, type Report, words } from './report.ts'

export function asTable(report: Report): string {
  const { attacks, doors, findings, hardening } = report
  return [
    `${report.database} on ${report.server}, as ${report.as}${report.isSuperuser ? ', a superuser' : ''}: ${(report.milliseconds / 1000).toFixed(1)} s`,
    ...section('There is', inventoryOf(report)),
    ...section('Laws', lawsOf(report)),
    ...section('Attempts, by role and context', byRole(report)),
    ...section('Attempts, by kind of object', byKind(report)),
    ...section('Of these attempts', summaryOf(report)),
    ...section(
      'Attempts that were not made',
      attacks.notMade.map((line) => `  ${line}`),
    ),
    ...section('What crosses tenants on purpose', columns(doors.map(({ object, role, why }) => [object, role, why]))),
    ...section(
      'Not hardened',
      hardening.map((missing) => `  ${describeMissing(missing)}`),
    ),
    '',
    findings.length === 0 ? 'No findings.' : `${plural(findings.length, 'finding')}:`,
    ...findings.flatMap((finding, at) => ['', ...describe(finding, at + 1)]),
  ].join('\n')
}

const section = (title: string, lines: readonly string[]): string[] => (lines.length > 0 ? ['', title, ...lines] : [])

const inventoryOf = ({ inventory }: Report): string[] => {
  const counts = inventoryKinds.map((kind) => [kind, String(inventory[kind].length)] as const)
  const half = Math.ceil(counts.length / 2)
  return columns(
    counts.slice(0, half).map(([kind, count], at) => [kind, count, ...(counts[half + at] ?? [])]),
    [1, 3],
  )
}

const lawsOf = ({ laws, rowsFollowed, notChecked }: Report): string[] => {
  const objects = laws.reduce((sum, { seen }) => sum + seen, 0)
  const broken = laws.filter(({ verdict }) => verdict === 'broken')
  return [
    `  ${laws.length} laws looked at ${objects} objects and ${rowsFollowed} rows: ${broken.length === 0 ? 'none is broken' : `${plural(broken.length, 'law')} broken`}`,
    ...notChecked.map(({ law, reason }) => `  not checked: ${words(law)}: ${reason}`),
  ]
}

const byRole = ({ attacks }: Report): string[] => [
  ...columns(
    [
      ['', ...contextNames],
      ...Object.entries(attacks.byRole).map(([role, counts]) => [
        role,
        ...contextNames.map((name) => String(counts[name] ?? 0)),
      ]),
    ],
    contextNames.map((_, at) => at + 1),
  ),
  '',
  ...columns(contextNames.map((name) => [name, contextMeanings[name]])),
]

const byKind = ({ attacks }: Report): string[] =>
  columns(
    [
      ['', 'objects', 'attempts'],
      ...Object.entries(attacks.byKind).map(([kind, { objects, attempts }]) => [
        kind,
        String(objects),
        String(attempts),
      ]),
    ],
    [1, 2],
  )

const summaryOf = ({ attacks }: Report): string[] => {
  const { attempts, refused, tables, ownRows } = attacks
  const all = tables.made + tables.found + tables.missing
  return [
    `  ${attempts} in all; ${refused} were refused or met nothing; what the others answered told of nobody but the findings below`,
    `  made-up tenants had rows in ${tables.made} of ${all} tables of tenants${tables.found > 0 ? `, ${plural(tables.found, 'table')} lent one` : ''}`,
    `  rows of one's own were seen: ${ownRows.map(({ role, may, sees }) => `${role} in ${sees} of ${may} tables`).join(', ')}`,
  ]
}

const describe = ({ rule, object, kind, severity, detail, why, mend, evidence }: Finding, number: number): string[] => [
  `${number}. ${severity === 'note' ? 'not proved: ' : ''}${words(rule)}: ${object}${kind === 'object' ? '' : ` (${kind})`}`,
  `   ${detail}`,
  `   why it matters: ${why}`,
  ...evidenceOf(evidence).map((line) => `   ${line}`),
  '   mend:',
  ...mend.split('\n').map((line) => `     ${line}`),
]

/** Who did it, in which contexts, with which commands. */
export const evidenceOf = (evidence: Finding['evidence']): string[] => {
  const actors = new Map<string, { contexts: Set<string>; commands: Set<string> }>()
  for (const { role, as, context, command } of evidence) {
    const actor = role === as ? role : `${role} as ${as}`
    const known = actors.get(actor) ?? { contexts: new Set(), commands: new Set() }
    actors.set(actor, { contexts: known.contexts.add(context), commands: known.commands.add(command) })
  }
  return [...actors].map(
    ([actor, { contexts, commands }]) =>
      `by ${actor}, in the context ${[...contexts].join(', ')}: ${[...commands].join(', ')}`,
  )
}

/** Left-aligned, but for the columns that hold numbers. */
const columns = (rows: readonly (readonly string[])[], numbers: readonly number[] = []): string[] => {
  const widths = (rows[0] ?? []).map((_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)))
  return rows.map((row) =>
    `  ${row.map((cell, at) => (numbers.includes(at) ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0))).join('  ')}`.trimEnd(),
  )
}
