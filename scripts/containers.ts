import { randomBytes } from 'node:crypto'
import { Refusal } from './progress.ts'

export type Containers = { databaseUrl: string; redisUrl: string; stop(): Promise<void> }

/** PostgreSQL 18 and Redis 8 from Testcontainers, for the time of one test run. */
export const startContainers = async (): Promise<Containers> => {
  // Loaded here, since it is large and only this needs it.
  const { GenericContainer, Wait } = await import('testcontainers')
  const password = randomBytes(24).toString('base64url')
  const started: { stop(): Promise<unknown> }[] = []
  const stop = async () => {
    await Promise.allSettled(started.splice(0).map((container) => container.stop()))
  }
  try {
    const [postgres, redis] = await Promise.all([
      new GenericContainer('postgres:18')
        .withEnvironment({ POSTGRES_PASSWORD: password, LANG: 'C.UTF-8' })
        .withCommand(['postgres', '-c', 'fsync=off', '-c', 'max_connections=300'])
        .withExposedPorts(5432)
        // The image first starts a server of its own to prepare the data; the second line is the real one's.
        .withWaitStrategy(Wait.forLogMessage(/database system is ready to accept connections/, 2))
        .start()
        .then(keep(started)),
      new GenericContainer('redis:8')
        .withExposedPorts(6379)
        .withWaitStrategy(Wait.forLogMessage(/Ready to accept connections/))
        .start()
        .then(keep(started)),
    ])
    return {
      databaseUrl: `postgres://postgres:${password}@${postgres.getHost()}:${postgres.getMappedPort(5432)}/postgres`,
      redisUrl: `redis://${redis.getHost()}:${redis.getMappedPort(6379)}`,
      stop,
    }
  } catch (error) {
    await stop()
    const reason = error instanceof Error ? error.message : String(error)
    throw new Refusal(`The containers did not start: ${reason} (is a container engine such as Docker running?)`)
  }
}

const keep =
  <T>(started: T[]) =>
  <C extends T>(container: C): C => {
    started.push(container)
    return container
  }
