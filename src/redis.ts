import { Redis as Client } from 'ioredis'
import type { Logger } from './log.ts'

/** Redis as something that may be missing: whoever asks it has another answer ready. */
export type Redis = {
  /**
   * What `work` answers; undefined when Redis is down, hangs or fails. Never throws, and waits 100 ms at most: after a
   * failure nobody asks Redis again until it has answered a ping sent beside the requests.
   */
  attempt<T>(work: (client: Client) => Promise<T>): Promise<T | undefined>
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
  client.on('error', () => {}) // every failure shows in `attempt`, and an unheard 'error' ends the process

  let trusted = true
  let closed = false
  let timer: NodeJS.Timeout | undefined

  const distrust = (cause: unknown) => {
    if (!trusted || closed) return
    trusted = false
    log.warn({ err: cause }, 'redis does not answer; each process counts alone until it does')
    timer = setTimeout(ping, PING_EVERY_MS).unref()
  }

  const ping = async () => {
    try {
      await client.ping()
      trusted = true
      log.info('redis answers again')
    } catch {
      if (!closed) timer = setTimeout(ping, PING_EVERY_MS).unref()
    }
  }

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
    close() {
      closed = true
      clearTimeout(timer)
      client.disconnect()
    },
  }
}
