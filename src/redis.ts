import { Redis as Client } from 'ioredis'
import type { Logger } from './log.ts'

/** Redis as something that may be missing: whoever asks it has another answer ready. */
export type Redis = {
  /**
   * What `work` answers; undefined when Redis is down, hangs or fails. Never throws, and waits 100 ms at most: after a
   * failure it is not asked again until it has answered a ping, which is sent beside the requests.
   */
  attempt<T>(work: (client: Client) => Promise<T>): Promise<T | undefined>
  /** Whether it answered when it was last asked. */
  trusted(): boolean
  close(): void
}

const PING_EVERY_MS = 500

export const makeRedis = (url: string, log: Logger): Redis => {
  const client = new Client(url, {
    connectTimeout: 500,
    commandTimeout: 100,
    socketTimeout: 1_000, // a connection whose other end vanished is given up, and made anew
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false, // what was not sent is not sent later: it has been answered from elsewhere
    autoResendUnfulfilledCommands: false,
    retryStrategy: () => PING_EVERY_MS,
    connectionName: 'bulkhead',
  })

  let trusted = false
  let complained = false
  let closed = false
  let timer: NodeJS.Timeout | undefined

  const distrust = (cause?: unknown) => {
    trusted = false
    if (complained || closed) return
    complained = true
    log.warn({ err: cause }, 'redis does not answer; each process goes by what it knows itself until it does')
    timer = setTimeout(ping, PING_EVERY_MS).unref()
  }

  const trust = () => {
    clearTimeout(timer)
    if (complained) log.info('redis answers again')
    trusted = true
    complained = false
  }

  // A connection that hangs becomes no other by itself, so it is asked
  const ping = async () => {
    try {
      await client.ping()
      if (!trusted) trust()
    } catch {
      if (!closed) timer = setTimeout(ping, PING_EVERY_MS).unref()
    }
  }

  client.on('ready', trust)
  client.on('error', distrust)
  client.on('close', () => distrust(new Error('the connection was closed')))

  return {
    async attempt(work) {
      if (!trusted) return undefined
      try {
        return await work(client)
      } catch (error) {
        distrust(error)
        return undefined
      }
    },
    trusted: () => trusted,
    close() {
      closed = true
      clearTimeout(timer)
      client.disconnect()
    },
  }
}
