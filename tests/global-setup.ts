/**
 * Before the first test: for each worker its servers, and one migrated and seeded template database that every test file
 * clones.
 *
 * PostgreSQL is embedded, or the one that TEST_DATABASE_URL (a superuser's) names; Redis is the one that
 * TEST_REDIS_URL names, or a redis-server on the path, or absent. TEST_MIGRATE_AS=owner migrates as managed servers
 * make one do it: as an owner with CREATEROLE, no superuser.
 */
import { spawnSync } from 'node:child_process'
import type { TestProject } from 'vitest/node'
import { Refusal } from '../scripts/progress.ts'
import { answers, hasRedisServer, startRedis } from '../scripts/redis.ts'
import { makeTemplate, startThrowaway, type Template, type Undo } from '../scripts/template.ts'

export default async (project: TestProject): Promise<Undo> => {
  const undo: Undo[] = []
  const teardown = async () => {
    for (const step of undo.splice(0).reverse()) await step()
  }
  try {
    const workers = Array.from({ length: workersOf(project) })
    project.provide('servers', await Promise.all(workers.map(() => arrangeServers(undo))))
    project.provide('containerEngine', spawnSync('docker', ['info'], { stdio: 'ignore', timeout: 10_000 }).status === 0)
  } catch (error) {
    await teardown()
    throw error
  }
  return teardown
}

// Servers

/** For one file, one: more would be started for nobody. */
const workersOf = ({ vitest }: TestProject): number =>
  Math.max(1, Math.min(Number(vitest.config.maxWorkers), vitest.state.getPaths().length))

const arrangeServers = async (undo: Undo[]) => ({
  template: await arrangeDatabases(undo),
  redisUrl: await arrangeRedis(undo),
})

const arrangeDatabases = async (undo: Undo[]): Promise<Template> => {
  const superuserUrl = process.env.TEST_DATABASE_URL || (await startThrowaway(undo))
  return makeTemplate(superuserUrl, { asOwner: process.env.TEST_MIGRATE_AS === 'owner' }, undo)
}

const arrangeRedis = async (undo: Undo[]): Promise<string | null> => {
  const given = process.env.TEST_REDIS_URL
  if (given) {
    if (await answers(given)) return given
    throw new Refusal('No Redis answers at TEST_REDIS_URL: start it, or unset the variable.')
  }
  if (!hasRedisServer()) return null
  const server = await startRedis()
  undo.push(() => server.stop())
  return server.url
}
