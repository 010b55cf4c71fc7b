import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/**
 * What asks how the database was migrated. tests/policies.managed.test.ts shows that both ways leave the same tables, roles,
 * grants, policies and functions, so that everything else would only say the same twice.
 */
const both = ['tests/**/*.managed.test.ts', 'tests/db/**/*.test.ts']

export default defineConfig({
  test: {
    include: process.env.TEST_MIGRATE_AS === 'owner' ? both : ['tests/**/*.test.ts'],
    globalSetup: ['tests/global-setup.ts'],
    pool: 'forks',
    // Each has servers of its own; one that was given is for one at a time.
    maxWorkers: process.env.TEST_DATABASE_URL || process.env.TEST_REDIS_URL ? 1 : Math.min(4, availableParallelism()),
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
