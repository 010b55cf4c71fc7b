/** HTTP/1.1 (RFC 9112) over one connection, byte for byte: what is asked may be wrong, and of the answer nothing is lost. */
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export type Request = {
  method: string
  /** As it stands in the request line. */
  target: string
  headers: readonly (readonly [name: string, value: string])[]
  body?: string | undefined
}

export type Answer = {
  status: number
  /** By name in lower case; what came several times is joined by a comma. */
  headers: Readonly<Record<string, string>>
  body: string
  /** All that came, from the status line to the last byte of the body as it was framed. */
  raw: string
  /** It was not over in time, or the connection ended within it. */
  cut: boolean
}

export type Wire = {
  /** One at a time. Rejects when the server cannot be reached, or closes without a word twice in a row. */
  ask(request: Request): Promise<Answer>
  close(): void
}

export const makeWire = (port: number, timeoutMs = 15_000): Wire => {
  let socket: Socket | undefined
  let closed = false

  const open = (): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const fresh = connect({ port, host: '127.0.0.1', noDelay: true }, () => resolve(fresh))
      fresh.once('error', reject)
    })

  const exchange = async (bytes: Buffer, method: string): Promise<Answer | undefined> => {
    if (!socket || socket.destroyed || !socket.writable) socket = await open()
    const line = socket
    return new Promise((resolve) => {
      let received: Buffer = Buffer.alloc(0)
      const end = (answer: Answer | undefined, reusable: boolean) => {
        clearTimeout(timer)
        line.removeAllListeners('data').removeAllListeners('close').removeAllListeners('error')
        line.on('error', () => {})
        if (!reusable || closed) line.destroy()
        resolve(answer)
      }
      const giveUp = () => end(received.length > 0 ? readAnswer(received, method, true)?.answer : undefined, false)
      const timer = setTimeout(giveUp, timeoutMs)
      line.on('error', giveUp)
      line.on('close', giveUp)
      line.on('data', (chunk) => {
        received = received.length === 0 ? chunk : Buffer.concat([received, chunk])
        const read = readAnswer(received, method, false)
        if (read) end(read.answer, read.reusable)
      })
      line.write(bytes)
    })
  }

  return {
    async ask(request) {
      const bytes = bytesOf(request)
      // a connection that was kept may have been closed meanwhile
      const answer = (await exchange(bytes, request.method)) ?? (await exchange(bytes, request.method))
      if (!answer) throw new Error(`${request.method} ${request.target}: the server closed without an answer`)
      return answer
    },
    close() {
      closed = true
      socket?.destroy()
    },
  }
}

/** Asks again while the server is overloaded, which a machine that is busy with something else may well be. */
export const askPatiently = async (wire: Wire, request: Request): Promise<Answer> => {
  for (let left = 10; ; left--) {
    const answer = await wire.ask(request)
    if ((answer.status !== 503 && answer.status !== 504) || left === 0) return answer
    await sleep(600)
  }
}

const bytesOf = ({ method, target, headers, body }: Request): Buffer => {
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  const length = body === undefined ? '' : `Content-Length: ${Buffer.byteLength(body)}\r\n`
  const head = Buffer.from(`${method} ${target} HTTP/1.1\r\n${lines}${length}\r\n`, 'latin1')
  return body === undefined ? head : Buffer.concat([head, Buffer.from(body)])
}

type Read = { answer: Answer; reusable: boolean }

/** The answer, once it is complete; `atEnd`, whatever there is of it. */
const readAnswer = (received: Buffer, method: string, atEnd: boolean, all = received): Read | undefined => {
  const headEnd = received.indexOf('\r\n\r\n')
  if (headEnd < 0) return atEnd ? { answer: cutOff(received), reusable: false } : undefined
  const [line = '', ...fields] = received.toString('latin1', 0, headEnd).split('\r\n')
  const status = Number(line.split(' ')[1])
  // an interim answer (RFC 9110, 15.2) precedes the final one
  if (status >= 100 && status < 200) return readAnswer(received.subarray(headEnd + 4), method, atEnd, all)

  const headers: Record<string, string> = {}
  for (const field of fields) {
    const colon = field.indexOf(':')
    const name = field.slice(0, colon).toLowerCase()
    const value = field.slice(colon + 1).trim()
    headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`
  }
  const framed = received.subarray(headEnd + 4)
  const body = readBody(framed, method, status, headers)
  if (!body && !atEnd) return undefined
  const endless = headers['transfer-encoding'] === undefined && headers['content-length'] === undefined
  const answer = {
    status,
    headers,
    body: (body ?? framed).toString(),
    raw: all.toString(),
    cut: !body && !endless,
  }
  return { answer, reusable: body !== undefined && headers.connection !== 'close' }
}

const cutOff = (received: Buffer): Answer => ({
  status: 0,
  headers: {},
  body: '',
  raw: received.toString(),
  cut: true,
})

/** RFC 9112, 6.3; undefined as long as it is not complete. */
const readBody = (
  framed: Buffer,
  method: string,
  status: number,
  headers: Record<string, string>,
): Buffer | undefined => {
  if (method === 'HEAD' || status === 204 || status === 304) return Buffer.alloc(0)
  if (headers['transfer-encoding'] !== undefined) return unchunk(framed)
  const length = headers['content-length']
  if (length === undefined) return undefined // until the connection ends
  return framed.length >= Number(length) ? framed.subarray(0, Number(length)) : undefined
}

/** RFC 9112, 7.1. */
const unchunk = (framed: Buffer): Buffer | undefined => {
  const parts: Buffer[] = []
  for (let at = 0; ; ) {
    const lineEnd = framed.indexOf('\r\n', at)
    if (lineEnd < 0) return undefined
    const size = Number.parseInt(framed.toString('latin1', at, lineEnd), 16)
    const end = lineEnd + 2 + size
    if (framed.length < end + 2) return undefined
    if (size === 0) return Buffer.concat(parts)
    parts.push(framed.subarray(lineEnd + 2, end))
    at = end + 2
  }
}
