/**
 * Syslog over TCP (RFC 6587) or TLS (RFC 5425), a message (RFC 5424) for each entry and each checkpoint:
 *
 *   <110>1 2026-03-01T12:00:00.123456Z host bulkhead - entry [audit@32473 tenant="…" batch="12" …] {…}
 *
 * Facility 13 is the audit's, severity 6 informational; 32473 is the number for examples (RFC 5612), since an enterprise
 * number of our own there is none. What stands behind the structured data is JSON, in UTF-8, without a byte order mark.
 *
 * Syslog acknowledges nothing. So each delivery has a connection of its own, and has arrived when the receiver, which has
 * read everything up to our end, has closed its side too.
 */
import { readFileSync } from 'node:fs'
import { connect, isIP, type Socket } from 'node:net'
import { hostname } from 'node:os'
import { Readable } from 'node:stream'
import { finished, pipeline } from 'node:stream/promises'
import { connect as connectTls } from 'node:tls'
import type { Destination, Message } from './stream.ts'

/** Neither sent nor answered for so long: the receiver is not there. */
const PATIENCE_MS = 30_000

const EVERY_MS = 2_000

/**
 * `syslog://host:514` or `syslog+tls://host:6514?ca=FILE&cert=FILE&key=FILE`: whom to trust, besides whom Node trusts, and
 * who we are, if the receiver asks. Throws when a file cannot be read.
 */
export const syslogDestination = (address: string): Destination => {
  const { protocol, hostname: host, port, searchParams } = new URL(address)
  const tls = protocol === 'syslog+tls:'
  const to = { host: host.replace(/^\[|\]$/g, ''), port: Number(port || (tls ? 6514 : 514)) }
  const file = (name: string) => {
    const path = searchParams.get(name)
    try {
      return path === null ? {} : { [name]: readFileSync(path) }
    } catch (error) {
      throw new Error(`AUDIT_STREAM: ${name}=${path} cannot be read (${(error as NodeJS.ErrnoException).code})`)
    }
  }
  const secrets = { ...file('ca'), ...file('cert'), ...file('key') }
  const named = isIP(to.host) === 0 ? { servername: to.host } : {} // RFC 6066, section 3: an address is no name
  const open = (): Socket => (tls ? connectTls({ ...to, ...secrets, ...named }) : connect(to))

  return {
    name: `${tls ? 'syslog+tls' : 'syslog'}://${host}:${to.port}`,
    everyMs: EVERY_MS,
    async deliver(pages, signal) {
      const socket = open()
      try {
        socket.setTimeout(PATIENCE_MS, () => socket.destroy(new Error(`no progress for ${PATIENCE_MS / 1000} s`)))
        socket.resume() // nothing is said there but the end
        await pipeline(Readable.from(framesOf(pages), { objectMode: false }), socket, { signal })
        await finished(socket, { signal, cleanup: true })
      } finally {
        socket.destroy()
      }
    },
  }
}

async function* framesOf(pages: AsyncIterable<Message[]>): AsyncGenerator<string> {
  for await (const page of pages) yield page.map((message) => framed(syslogMessage(message))).join('')
}

/** Octet counting (RFC 6587, 3.4.1): the length in bytes, a space, the message. */
const framed = (message: string): string => `${Buffer.byteLength(message)} ${message}`

const FACILITY_AUDIT = 13
const INFORMATIONAL = 6

const us =
  hostname()
    .replace(/[^\x21-\x7e]/g, '')
    .slice(0, 255) || '-'

/** RFC 5424, section 6. */
export const syslogMessage = ({ kind, at, tenantId, batch, position, index, text }: Message): string => {
  const data = { tenant: tenantId, batch, position, index: String(index) }
  // ids and numbers: nothing that has to be escaped (6.3.3)
  const parameters = Object.entries(data).map(([name, value]) => ` ${name}="${value}"`)
  return `<${FACILITY_AUDIT * 8 + INFORMATIONAL}>1 ${at} ${us} bulkhead - ${kind} [audit@32473${parameters.join('')}] ${text}`
}
