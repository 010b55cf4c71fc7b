/** Mails that only tell what has happened, as parameters of the statement that it happens in. */
import type { Act, MailKeys, SealedMail } from './seal.ts'

/** Whom to tell: their id, and where and as whom they are written to. */
export type Addressee = { userId: string; email: string; name?: string | undefined }

/** A mail as the database takes it, a value for each column of app.sealed_mail. */
export type MailValues = [id: string, kind: string, keyId: string, sealed: Buffer]

export const valuesOf = ({ id, kind, keyId, sealed }: SealedMail): MailValues => [id, kind, keyId, sealed]

/** A mail of four parameters, from the n-th on. */
export const mailFrom = (n: number): string =>
  `row($${n}::uuid, $${n + 1}::text, $${n + 2}::text, $${n + 3}::bytea)::app.sealed_mail`

/** A person of a tenant, or an operator: whose id it is. */
export type Holder = 'person' | 'operator'

/** For `lateral`: tells who stands in the n-th parameter, with the mail in the four after it, if `condition` holds. */
export const notifying = (n: number, condition: string, holder: Holder = 'person'): string =>
  `app.notify_${holder}($${n}::uuid, ${mailFrom(n + 1)}, ${condition})`

/** The parameters that `notifying` speaks of. */
export type Notice = [userId: string, ...mail: MailValues]

/** The same for no mail, of which the condition is false: its id is null. */
export const noNotice = (userId: string | null) => [userId, null, null, null, null] as const

export const noticeTo = (mails: MailKeys, { userId, email, name }: Addressee, kind: string, act?: Act): Notice => [
  userId,
  ...valuesOf(mails.seal({ kind, to: email, name, act })),
]
