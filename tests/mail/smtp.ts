/** SMTP servers for tests: one that is as it should be and can be told to refuse, and one that goes wrong at a chosen step. */
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { SMTPServer, type SMTPServerOptions } from 'smtp-server'

export type Received = { from: string; to: string[]; raw: string; user: unknown; secure: boolean }

export type TestServer = {
  port: number
  /** What it has taken over, in this order. */
  received: Received[]
  close(): Promise<void>
}

type Options = SMTPServerOptions & {
  /** Before a message is taken over, which it is when this resolves; what it throws is the answer. */
  beforeTaking?: (raw: string) => Promise<void>
}

export const startSmtp = async ({ beforeTaking, ...options }: Options = {}): Promise<TestServer> => {
  const received: Received[] = []
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: options.key ? [] : ['STARTTLS'],
    disableReverseLookup: true,
    allowInsecureAuth: true,
    closeTimeout: 100,
    onAuth: ({ username }, _session, done) => done(null, { user: username }),
    onData(stream, session, done) {
      const chunks: Buffer[] = []
      stream.on('data', (chunk) => chunks.push(chunk))
      stream.on('end', () => {
        const raw = Buffer.concat(chunks).toString()
        const { mailFrom, rcptTo } = session.envelope
        const take = () => {
          received.push({
            from: mailFrom === false ? '' : mailFrom.address,
            to: rcptTo.map(({ address }) => address),
            raw,
            user: session.user,
            secure: session.secure,
          })
          done()
        }
        if (!beforeTaking) return take()
        beforeTaking(raw).then(take, done)
      })
    },
    ...options,
  })
  server.on('error', () => {}) // of clients that were killed
  server.listen(0, '127.0.0.1')
  await once(server.server, 'listening')
  return {
    port: (server.server.address() as AddressInfo).port,
    received,
    close: () => new Promise((resolve) => void server.close(() => resolve())),
  }
}

/** What it does where it goes wrong. */
type Fault = (socket: Socket) => void

export const hang: Fault = () => {}
export const breakOff: Fault = (socket) => void socket.destroy()
export const babble: Fault = (socket) => void socket.write('this is no SMTP\r\n')

/** Answers as it should until it has seen a line that begins with `at` ('' is the greeting, '.' the end of a message). */
export const startFaultySmtp = async (at: string, fault: Fault): Promise<TestServer & { reached: number }> => {
  const sockets = new Set<Socket>()
  const it: TestServer & { reached: number } = { port: 0, received: [], reached: 0, close: async () => {} }
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => {})
    const wrong = (line: string): boolean => {
      const isIt = at === '' ? line === '' : line.startsWith(at)
      if (isIt) {
        it.reached += 1
        fault(socket)
      }
      return isIt
    }
    let inData = false
    let rest = ''
    if (!wrong('')) socket.write('220 test ESMTP\r\n')
    socket.on('data', (chunk) => {
      const lines = (rest + chunk).split('\r\n')
      rest = lines.pop() ?? ''
      for (const line of lines) {
        if (inData && line !== '.') continue
        if (wrong(line || ' ')) return
        inData = line.startsWith('DATA')
        socket.write(inData ? '354 go on\r\n' : line.startsWith('EHLO') ? '250-test\r\n250 8BITMIME\r\n' : '250 ok\r\n')
      }
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  it.port = (server.address() as AddressInfo).port
  it.close = async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
  }
  return it
}
