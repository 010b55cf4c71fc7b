/**
 * Whether every filter and every order of a list still asks its index where each of a hundred tenants has very many rows:
 * tests/lists.test.ts, with tasks alone, which have the most of both.
 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'

export async function benchExplain(rows: number): Promise<void> {
  const root = join(import.meta.dirname, '..', '..')
  const from = performance.now()
  const { status } = spawnSync(
    process.execPath,
    [
      join(root, 'node_modules', 'vitest', 'vitest.mjs'),
      'run',
      'tests/lists.test.ts',
      '--reporter=dot',
      '-t',
      'listTasks',
    ],
    {
      cwd: root,
      stdio: 'inherit',
      env: { ...process.env, TEST_LISTED_ROWS: String(rows) },
    },
  )
  if (status !== 0) throw new Error('not every filter and order asks its index')
  console.log(
    `plans at 100 tenants with ${rows} tasks each: all as declared, in ${((performance.now() - from) / 1000).toFixed(0)} s`,
  )
}
