/** Places outside by their addresses: what AUDIT_CHECKPOINTS and AUDIT_STREAM name. */
import { fileURLToPath } from 'node:url'
import { objectDestination } from './objects.ts'
import { s3Sink } from './s3.ts'
import { folderSink, type Sink } from './sinks.ts'
import type { Destination } from './stream.ts'
import { syslogDestination } from './syslog.ts'

/** `file:///folder` or `s3://bucket/prefix`. */
export const openSink = (address: string): Sink =>
  address.startsWith('s3:') ? s3Sink(address) : folderSink(fileURLToPath(address))

/** `everyMs`: how often files are written. Throws, with a message for whoever set the address, when it cannot be used. */
export const openDestination = (address: string, everyMs: number): Destination =>
  address.startsWith('syslog') ? syslogDestination(address) : objectDestination(openSink(address), everyMs)
