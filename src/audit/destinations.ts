/** Where a stream of the audit log may go, by the address that AUDIT_STREAM names. */
import { objectDestination } from './objects.ts'
import { openSink } from './sinks.ts'
import type { Destination } from './stream.ts'
import { syslogDestination } from './syslog.ts'

/** `everyMs`: how often files are written. Throws, with a message for whoever set the address, when it cannot be used. */
export const openDestination = (address: string, everyMs: number): Destination =>
  address.startsWith('syslog') ? syslogDestination(address) : objectDestination(openSink(address), everyMs)
