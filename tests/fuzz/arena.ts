import { afterAll, beforeAll, vi } from 'vitest'
import { newSeed } from '../../scripts/fuzz/random.ts'
import { describeReport, type Finding, type Report } from '../../scripts/fuzz/report.ts'
import { makeStage, type Stage } from '../../scripts/fuzz/stage.ts'
import { template } from '../servers.ts'

/** One stage for a file; each run works on copies of it. */
export const arena = (): { readonly stage: Stage; readonly seed: number } => {
  // much is tried, and others are at work on the machine: a limit ends what hangs
  vi.setConfig({ testTimeout: 900_000, hookTimeout: 300_000 })
  const it = { seed: newSeed() } as { stage: Stage; seed: number }
  beforeAll(async () => {
    it.stage = await makeStage(template())
  })
  afterAll(() => it.stage.drop())
  return it
}

/** What a run found, in the words in which it is to be seen when it should have found nothing. */
export const said = (name: string, seed: number, report: Report): string =>
  report.findings.length === 0 ? 'nothing was found' : describeReport(name, seed, report)

export const told = (report: Report, ways: readonly Finding['told'][]): Finding[] =>
  report.findings.filter((finding) => ways.includes(finding.told))
