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
