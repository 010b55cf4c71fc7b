/** One client with one connection: what a request takes, without how many others there are. */
import { Agent, request } from 'node:http'
import { measure } from './measure.ts'

export type Asking = { url: string; method?: string; token: string; body?: () => unknown }

/** Latencies of the same request again and again, in milliseconds with their fractions. */
export async function latencies({ url, method = 'GET', token, body }: Asking, seconds: number) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const ask = () =>
    new Promise<void>((resolve, reject) => {
      const sent = request(url, { method, agent, headers }, (answer) => {
        answer.resume()
        answer.on('end', () => {
          if ((answer.statusCode ?? 500) < 300) resolve()
          else reject(new Error(`${method} ${url} answered ${answer.statusCode}`))
        })
      })
      sent.on('error', reject)
      sent.end(body && JSON.stringify(body()))
    })
  try {
    await ask() // what is refused is said, and what is slow once is not what is asked
    const { failed, ...figures } = await measure(ask, 1, seconds)
    if (failed > 0) throw new Error(`${failed} requests to ${url} failed`)
    return figures
  } finally {
    agent.destroy()
  }
}
