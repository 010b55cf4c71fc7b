/** A TCP proxy that can be made to fail the ways networks do. */
import { connect, createServer, type Socket } from 'node:net'

export type FaultyProxy = {
  readonly port: number
  /** Bytes go both ways. */
  pass(): void
  /** Connections stay, and new ones are taken, but nothing comes through: it waits, as TCP would, until it may pass. */
  hang(): void
  /** Connections are cut, and new ones at once. */
  cut(): void
  close(): Promise<void>
}

export const startProxy = async (target: { host: string; port: number }): Promise<FaultyProxy> => {
  let mode: 'pass' | 'hang' | 'cut' = 'pass'
  const sockets = new Set<Socket>()
  const keep = (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
  }

  const server = createServer((near) => {
    keep(near)
    if (mode === 'cut') return void near.destroy()
    const far = connect(target)
    keep(far)
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on('data', (chunk) => to.write(chunk))
      from.on('close', () => to.destroy())
      if (mode === 'hang') from.pause()
    }
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const address = server.address()
  const cutAll = () => {
    for (const socket of sockets) socket.destroy()
  }

  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    pass: () => {
      mode = 'pass'
      for (const socket of sockets) socket.resume()
    },
    hang: () => {
      mode = 'hang'
      for (const socket of sockets) socket.pause()
    },
    cut: () => {
      mode = 'cut'
      cutAll()
    },
    close: () => {
      cutAll()
      return new Promise((done) => server.close(() => done()))
    },
  }
}
