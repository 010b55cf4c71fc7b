import { defineConfig } from 'vitest/config'

/**
 * What also runs against a database that was migrated without superuser's rights (TEST_MIGRATE_AS=owner): the files
 * named so, and these.
 */
const managed = ['tests/**/*.managed.test.ts']

export default defineConfig({
  test: {
    include: process.env.TEST_MIGRATE_AS === 'owner' ? managed : ['tests/**/*.test.ts'],
    globalSetup: ['tests/global-setup.ts'],
    pool: 'forks',
    // Real servers on busy machines; a limit here ends what hangs and says nothing about speed.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 30_000,
    coverage: {
      provider: 'v8',
      include: ['src/**/*.ts'],
      exclude: ['src/db/schema.ts'],
      reporter: ['text', 'html', 'json-summary'],
      thresholds: {
        'src/db/**': { lines: 90, functions: 90, branches: 80 },
        'src/auth/**': { lines: 90, functions: 90, branches: 80 },
        'src/modules/auth*': { lines: 90, functions: 90, branches: 80 },
      },
    },
  },
})
