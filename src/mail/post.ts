/** Where mails go: to an SMTP server (RFC 5321), or, in development, into a folder. */
import { chmod, mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createTransport, type SendMailOptions } from 'nodemailer'
import type { Smtp } from '../config.ts'
import type { Logger } from '../log.ts'
import type { Message } from './letters.ts'

export type Outgoing = Message & { id: string; kind: string; createdAt: Date }

export type Post = {
  /**
   * Resolves when the server has taken it over. Throws otherwise, and then it may have arrived all the same: an answer can
   * be lost. `signal` breaks the connection off.
   */
  send(mail: Outgoing, signal: AbortSignal): Promise<void>
}

export type Sender = { name: string; address: string }

/** As seen by everybody: the same id in each attempt, so that what arrives twice can be told to be one. */
export const messageIdOf = (id: string, from: Sender): string => `<${id}@${from.address.split('@').at(-1)}>`

const compose = (mail: Outgoing, from: Sender): SendMailOptions => ({
  // nodemailer writes into what it is given
  from: { ...from },
  to: mail.to.name === '' ? mail.to.address : { ...mail.to },
  envelope: { from: from.address, to: mail.to.address },
  subject: mail.subject,
  text: mail.text,
  html: mail.html,
  messageId: messageIdOf(mail.id, from),
  date: mail.createdAt,
  // RFC 3834: nobody is to answer it by machine
  headers: { 'Auto-Submitted': 'auto-generated' },
  disableFileAccess: true,
  disableUrlAccess: true,
})

/** A connection for each attempt, so that what becomes of one is never in doubt because of another. */
export const smtpPost = ({ host, port, secure, tls, user, pass }: Smtp, from: Sender): Post => {
  const transport = createTransport({
    host,
    port,
    secure,
    requireTLS: tls && !secure,
    ignoreTLS: !tls,
    ...(user !== undefined && { auth: { user, pass: pass ?? '' } }),
    connectionTimeout: 10_000,
    greetingTimeout: 10_000,
    dnsTimeout: 10_000,
    socketTimeout: 30_000,
  })
  return {
    async send(mail, signal) {
      await transport.sendMail({ ...compose(mail, from), signal })
    },
  }
}

/** Each as a file that mail programs open, and its link in the log; for nobody else to read, since it signs people in. */
export const folderPost = (folder: string, from: Sender, log: Logger): Post => {
  const transport = createTransport({ streamTransport: true, buffer: true, newline: 'windows' })
  return {
    async send(mail) {
      const { message } = await transport.sendMail(compose(mail, from))
      await mkdir(folder, { recursive: true })
      await chmod(folder, 0o700)
      const time = mail.createdAt.toISOString().slice(0, 19).replaceAll(/[-:]/g, '')
      const file = join(folder, `${time}-${mail.kind}-${mail.id}.eml`)
      await writeFile(`${file}.new`, message as Buffer, { mode: 0o600 })
      await rename(`${file}.new`, file)
      log.info(`mail to ${mail.to.address}: ${mail.subject}${mail.link === undefined ? '' : ` ${mail.link}`} (${file})`)
    },
  }
}

/** Why an attempt failed, as a code without what the server said, which may quote addresses. */
export const failureOf = (error: unknown): { failure: string; permanent: boolean } => {
  if (!(error instanceof Error)) return { failure: 'unknown', permanent: false }
  const { code, command, responseCode } = error as Error & Record<'code' | 'command' | 'responseCode', unknown>
  const status = typeof responseCode === 'number' ? responseCode : undefined
  const words = [typeof code === 'string' ? code : error.name, ...(status === undefined ? [] : [status])].join(' ')
  return {
    failure: words.replaceAll(/[^A-Za-z0-9_ ]/g, '').slice(0, 80) || 'unknown',
    // RFC 5321, 4.2.1: a 5 is for good. But only of the recipient and the message it says so; the rest is for us to mend
    permanent: status !== undefined && status >= 500 && ['RCPT TO', 'DATA'].includes(String(command)),
  }
}
