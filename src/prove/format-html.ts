/** The report as one page for people: nothing is loaded from elsewhere, nothing runs in it, every text is escaped. */
import { describeMissing } from '../db/check.ts'
import { escapeHtml } from '../lib/html.ts'
import { contextMeanings, contextNames } from './contexts.ts'
import { evidenceOf } from './format-table.ts'
import { inventoryKinds } from './inventory.ts'
import { type Finding, plural, type Report, words } from './report.ts'

/** Text that is HTML already; only the tag `html` makes it. */
type Html = { readonly html: string }
type Part = Html | string | number | readonly Html[]

const html = (strings: TemplateStringsArray, ...parts: Part[]): Html => ({
  html: strings.reduce((whole, text, at) => whole + written(parts[at - 1] ?? '') + text),
})

const written = (part: Part): string => {
  if (typeof part === 'string' || typeof part === 'number') return escapeHtml(String(part))
  return 'html' in part ? part.html : part.map(({ html }) => html).join('')
}

export function asHtml(report: Report): string {
  const { attacks, doors, findings, hardening, inventory, laws } = report
  const errors = findings.filter(({ severity }) => severity === 'error').length
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Isolation of ${report.database}</title>
<style>${style}</style>
</head>
<body>
<h1>Isolation of ${report.database}</h1>
<p class="${errors > 0 ? 'bad' : findings.length > 0 ? 'open' : 'good'}">${verdict(findings)}</p>
<p>${report.server}, as ${report.as}${report.isSuperuser ? ', a superuser' : ''}; ${report.at}; ${(report.milliseconds / 1000).toFixed(1)} s</p>

<h2>Findings</h2>
${findings.length === 0 ? html`<p>None.</p>` : findings.map(finding)}

<h2>Attempts</h2>
<p>${attacks.attempts} in all; ${attacks.refused} were refused or met nothing. Made-up tenants had rows in ${attacks.tables.made} of ${attacks.tables.made + attacks.tables.found + attacks.tables.missing} tables of tenants.</p>
${table(
  ['role', ...contextNames],
  Object.entries(attacks.byRole).map(([role, counts]) => [role, ...contextNames.map((name) => counts[name] ?? 0)]),
)}
<dl>${contextNames.map((name) => html`<dt>${name}</dt><dd>${contextMeanings[name]}</dd>`)}</dl>
${table(
  ['kind', 'objects', 'attempts'],
  Object.entries(attacks.byKind).map(([kind, { objects, attempts }]) => [kind, objects, attempts]),
)}
${table(
  ['role', 'tables it may read', 'tables in which it saw its own rows'],
  attacks.ownRows.map(({ role, may, sees }) => [role, may, sees]),
)}
${attacks.notMade.length > 0 ? html`<h3>Not made</h3><ul>${attacks.notMade.map((line) => html`<li>${line}</li>`)}</ul>` : ''}

<h2>Laws</h2>
${table(
  ['law', 'seen', ''],
  laws.map(({ name, seen, verdict }) => [words(name), seen, verdict]),
)}

<h2>What crosses tenants on purpose</h2>
${table(
  ['what', 'for', 'why'],
  doors.map(({ object, role, why }) => [object, role, why]),
)}

<h2>Not hardened</h2>
${hardening.length === 0 ? html`<p>Everything is.</p>` : html`<ul>${hardening.map((missing) => html`<li>${describeMissing(missing)}</li>`)}</ul>`}

<h2>What there is</h2>
${inventoryKinds.map((kind) => html`<details><summary>${kind} <span>${inventory[kind].length}</span></summary><ul>${inventory[kind].map((name) => html`<li><code>${name}</code></li>`)}</ul></details>`)}
</body>
</html>
`.html
}

const verdict = (findings: readonly Finding[]): string =>
  findings.length === 0 ? 'No findings.' : `${plural(findings.length, 'finding')}.`

const finding = ({
  rule,
  object,
  kind,
  severity,
  detail,
  why,
  mend,
  evidence,
}: Finding): Html => html`<section class="${severity}">
<h3>${severity === 'note' ? 'Not proved: ' : ''}${words(rule)}: <code>${object}</code>${kind === 'object' ? '' : ` (${kind})`}</h3>
<p>${detail}</p>
<p>${why}</p>
${evidence.length > 0 ? html`<ul>${evidenceOf(evidence).map((line) => html`<li>${line}</li>`)}</ul>` : ''}
<pre><code>${mend}</code></pre>
</section>
`

const table = (head: readonly string[], rows: readonly (readonly (string | number)[])[]): Html =>
  html`<table><thead><tr>${head.map((cell) => html`<th>${cell}</th>`)}</tr></thead><tbody>${rows.map(
    (row) =>
      html`<tr>${row.map((cell) => (typeof cell === 'number' ? html`<td class="number">${cell}</td>` : html`<td>${cell}</td>`))}</tr>`,
  )}</tbody></table>`

const style: Html = {
  html: `
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff }
h1, h2, h3 { line-height: 1.2 } h2 { margin-top: 2.5rem } h3 { margin: 0 0 .5rem }
table { border-collapse: collapse; margin: 1rem 0 } th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
.number { text-align: right; font-variant-numeric: tabular-nums }
code, pre { font: 13px/1.5 ui-monospace, monospace } pre { background: #f4f4f4; padding: .7rem; overflow-x: auto; white-space: pre-wrap }
section { border-left: 4px solid #b00020; padding: .1rem 1rem; margin: 1.5rem 0 } section.note { border-color: #b58900 }
.good, .bad, .open { font-size: 1.2rem; font-weight: 600 } .good { color: #1b6e3c } .bad { color: #b00020 } .open { color: #7a5c00 }
dt { font-weight: 600 } dd { margin: 0 0 .3rem 1rem } summary { cursor: pointer } summary span { color: #666 }
`,
}
