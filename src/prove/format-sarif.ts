/**
 * The report as SARIF 2.1.0 (OASIS Standard), for code scanning and CI.
 *
 * A rule is a law, an attack or a gap (reportingDescriptor, 3.49), with why it matters as its help; a result names its
 * object as a logical location (3.33), and as a physical one the file that states the rule, since an object of a database
 * has none and most viewers ask for one. A finding's fingerprint is its rule and object, so it stays the same from run to
 * run. What is not hardened is no failure: `kind` informational, and so `level` none (3.27.9, 3.27.10).
 */
import { createHash } from 'node:crypto'
import { type Finding, type Report, words } from './report.ts'

const schema = 'https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json'
const help = 'https://www.postgresql.org/docs/current/ddl-rowsecurity.html'

type Source = Finding['source'] | 'hardening'

export function asSarif(report: Report): string {
  const { findings, hardening } = report
  const missing = hardening.flatMap(({ what, holds, objects }) =>
    objects.map((found) => ({
      rule: what,
      source: 'hardening' as const,
      severity: 'note' as const,
      kind: 'object',
      why: `Without it, ${holds}`,
      evidence: [],
      ...found,
    })),
  )
  const results = [...findings, ...missing]
  const rules = [...new Map(results.map((result) => [result.rule, result])).values()]
  return JSON.stringify(
    {
      $schema: schema,
      version: '2.1.0',
      runs: [
        {
          tool: {
            driver: {
              name: 'bulkhead prove',
              rules: rules.map(({ rule, source, why, severity }) => ({
                id: rule,
                shortDescription: { text: `${sentence(rule)}.` },
                fullDescription: { text: why },
                help: { text: why, markdown: `${escapeMarkdown(why)}\n\nStated in \`${fileOf(source, rule)}\`.` },
                helpUri: help,
                defaultConfiguration: { level: severity },
                properties: {
                  tags: ['security', 'tenant-isolation', source],
                  precision: 'very-high',
                  'problem.severity': severity === 'error' ? 'error' : 'recommendation',
                  ...(severity === 'error' && { 'security-severity': '9.0' }),
                },
              })),
            },
          },
          automationDetails: { id: `bulkhead-prove/${report.database}/` },
          invocations: [
            {
              executionSuccessful: true,
              startTimeUtc: report.at,
              endTimeUtc: new Date(Date.parse(report.at) + report.milliseconds).toISOString(),
            },
          ],
          originalUriBaseIds: { SRCROOT: { description: { text: 'The root of the repository.' } } },
          results: results.map((result) => ({
            ruleId: result.rule,
            ruleIndex: rules.findIndex(({ rule }) => rule === result.rule),
            ...(result.source === 'hardening'
              ? { kind: 'informational', level: 'none' }
              : { kind: 'fail', level: result.severity }),
            message: {
              text: `${result.object}: ${result.detail}. Mend: ${result.mend}`,
              markdown: `**${escapeMarkdown(result.object)}**: ${escapeMarkdown(result.detail)}\n\n${escapeMarkdown(result.why)}\n\n\`\`\`sql\n${result.mend.replaceAll('```', "'''")}\n\`\`\``,
            },
            locations: [
              {
                physicalLocation: {
                  artifactLocation: { uri: fileOf(result.source, result.rule), uriBaseId: 'SRCROOT' },
                  region: { startLine: 1 },
                },
                logicalLocations: [
                  { name: result.object, fullyQualifiedName: `${report.database}.${result.object}`, kind: result.kind },
                ],
              },
            ],
            partialFingerprints: {
              'ruleAndObject/v1': createHash('sha256').update(`${result.rule} ${result.object}`).digest('hex'),
            },
            properties: { mend: result.mend, evidence: result.evidence },
          })),
          properties: { attempts: report.attacks.attempts, laws: report.laws.length },
        },
      ],
    },
    null,
    2,
  )
}

const fileOf = (source: Source, rule: string): string =>
  source === 'law'
    ? `sql/laws/${rule}.sql`
    : source === 'hardening'
      ? `sql/hardening/${rule}.sql`
      : 'src/prove/rules.ts'

const sentence = (rule: string): string => words(rule).replace(/^./, (first) => first.toUpperCase())

/** What Markdown would read as its own. */
const escapeMarkdown = (text: string): string => text.replaceAll(/[\\`*_{}[\]<>#|]/g, '\\$&')
