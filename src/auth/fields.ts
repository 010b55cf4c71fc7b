/** What people, and operators, send of themselves. */
import { Type } from '@sinclair/typebox'
import { Named } from '../lib/schemas.ts'
import { PASSWORD_LENGTH } from './passwords.ts'

export const Email = Type.String({
  maxLength: 254,
  pattern:
    "^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*" +
    '@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\\.)+[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$',
  description: 'ASCII, a domain of another script in its xn-- form. Upper and lower case are the same.',
  examples: ['ada@example.com'],
})

/** One that is to be kept. */
export const NewPassword = Type.String({
  minLength: PASSWORD_LENGTH.min,
  maxLength: PASSWORD_LENGTH.max,
  description: 'Any characters in any mixture, but not what everybody tries first. Compared in Unicode NFC.',
  examples: ['correct horse battery staple'],
})

/** One that is compared with what was kept. */
export const Password = Type.String({
  minLength: 1,
  maxLength: PASSWORD_LENGTH.max,
  examples: ['correct horse battery staple'],
})

export const Name = Named({ examples: ['Ada Lovelace'] })

export const Slug = Type.String({
  pattern: '^(?!..--)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
  description: 'The label of a host name.',
  examples: ['acme'],
})

/** Of an authenticator, or a recovery code. */
export const Code = Type.String({
  minLength: 1,
  maxLength: 64,
  description: 'Six digits of the authenticator, or a recovery code. Each counts once.',
  examples: ['492039'],
})
