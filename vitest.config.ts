import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** What does not ask how the database was migrated; everything else runs both ways (TEST_MIGRATE_AS). */
const once = [
  'tests/lib/**',
  'tests/auth/passwords.test.ts',
  'tests/db/policy-diff.test.ts',
  'tests/cli/policies.test.ts',
  'tests/crash.test.ts',
  'tests/config.test.ts',
  'tests/docs.test.ts',
  'tests/fuzz/**',
  'tests/image.test.ts',
  'tests/isolation-doc.test.ts',
  'tests/lint.test.ts',
  'tests/hardening.test.ts',
  'tests/jobs/drift.test.ts',
  'tests/laws.test.ts',
  'tests/policies.test.ts',
  'tests/prove.test.ts',
  'tests/prove/**',
  'tests/start.test.ts',
]

export default defineConfig({
  test: {
    include: ['tests/**/*.test.ts'],
    exclude: process.env.TEST_MIGRATE_AS === 'owner' ? once : [],
    globalSetup: ['tests/global-setup.ts'],
    pool: 'forks',
    // Files mostly wait for their servers; more of them at once would need more connections than a server has.
    maxWorkers: Math.min(4, Math.max(1, availableParallelism() - 1)),
    // Real servers on busy machines; a limit here ends what hangs and says nothing about speed.
    testTimeout: 180_000,
    hookTimeout: 180_000,
    teardownTimeout: 60_000,
    expect: { poll: { timeout: 30_000 } },
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts'],
      exclude: ['src/db/schema.ts'],
      reporter: ['text', 'html', 'json-summary'],
      thresholds: {
        'src/db/**': { lines: 93, functions: 90, branches: 78 },
        'src/auth/**': { lines: 95, functions: 95, branches: 90 },
        'src/modules/auth/**': { lines: 95, functions: 95, branches: 90 },
      },
    },
  },
})
