import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Attempts } from '../../auth/attempts.ts'
import { type Codes, showingCode } from '../../auth/codes.ts'
import type { Devices } from '../../auth/devices.ts'
import { hashOfMailedToken } from '../../auth/mailed-tokens.ts'
import type { Own } from '../../auth/own.ts'
import { hashPassword, weaknessOf } from '../../auth/passwords.ts'
import type { AskedRegistration, Recovery } from '../../auth/recovery.ts'
import type { Sessions } from '../../auth/sessions.ts'
import { Problem } from '../../errors.ts'
import { readClaims } from '../../plugins/auth.ts'
import { Code, Email, NewPassword, Password } from './answers.ts'
import { confirmPassword, refused } from './refusals.ts'

// What is sent and answered

const MailedToken = Type.String({
  minLength: 1,
  maxLength: 512,
  description: 'From the link in the mail.',
  examples: ['bht_K5b7YzE0Qm3x1vWcT8sUoPjR2nDfHgLiA6kXeZqVyMw'],
})

const Forgotten = Type.Object({ email: Email }, { additionalProperties: false })
const Reset = Type.Object({ token: MailedToken, new_password: NewPassword }, { additionalProperties: false })
const Proof = Type.Object(
  {
    token: MailedToken,
    password: Type.Optional({
      ...NewPassword,
      description:
        'For the token of a registration: the one to sign in with from now on. For any other it is not used.',
    }),
  },
  { additionalProperties: false },
)
const NewAddress = Type.Object(
  { email: Email, password: Password, totp: Type.Optional(Code) },
  { additionalProperties: false },
)

const Accepted = Type.Object({
  detail: Type.String({ examples: ['If somebody here has this address, a mail is on its way.'] }),
})

// What it is

/** A token that is no good costs no hashing, and is written down. */
async function resetPassword(
  { recovery, sessions }: Options,
  { token, new_password }: Static<typeof Reset>,
  request: FastifyRequest,
): Promise<{ email: string }> {
  const hash = hashOfMailedToken(token)
  const found = hash && (await recovery.findPasswordReset(hash))
  if (!hash || !found) return refuseToken(sessions, request)

  const weakness = weaknessOf(new_password, { email: found.email, tenantNames: found.tenant_names })
  if (weakness) throw refused('/new_password', weakness)
  const reset = await recovery.resetPassword(hash, found, await hashPassword(new_password), request)
  if (!reset) await refuseToken(sessions, request)
  return found
}

/** Whoever asked for a registration may be anybody: its password is chosen by who reads the mail. */
async function verifyEmail(
  app: FastifyInstance,
  { recovery, sessions }: Options,
  { token, password }: Static<typeof Proof>,
  request: FastifyRequest,
): Promise<void> {
  const claims = readClaims(app, request)
  if (!claims && request.headers.authorization !== undefined) throw new Problem('unauthenticated')
  const hash = hashOfMailedToken(token)
  if (!hash) return refuseToken(sessions, request)
  const wanted = await recovery.findRegistration(hash)
  const verified = wanted
    ? await recovery.finishRegistration(hash, await hashPassword(chosenFor(wanted, password)), request)
    : await recovery.verifyEmail(hash, claims?.secret, request)
  if (!verified) await refuseToken(sessions, request)
}

/** Throws unprocessable for none, and for one that would be guessed; the token is still good then. */
function chosenFor({ email, tenant_names: tenantNames }: AskedRegistration, password: string | undefined): string {
  if (password === undefined) throw refused('/password', 'is required: choose the one to sign in with')
  const weakness = weaknessOf(password, { email, tenantNames })
  if (weakness) throw refused('/password', weakness)
  return password
}

async function refuseToken(sessions: Sessions, request: FastifyRequest): Promise<never> {
  await sessions.logRefusal(request, 'token_refused', { detail: { route: request.routeOptions.url } })
  throw new Problem('token_invalid')
}

/** Whether somebody has the new address is not looked at: it would show. */
async function changeEmail(parts: OwnOptions, body: Static<typeof NewAddress>, request: FastifyRequest): Promise<void> {
  const { secret } = request.claims
  const said = { path: '/password', password: body.password }
  const { user_id: userId, email: from, name } = await confirmPassword(parts, said, request)
  const to = body.email.toLowerCase()
  if (to === from) throw refused('/email', 'must be another one')
  await showingCode(
    parts,
    { person: { userId, email: from, name }, code: body.totp, act: 'changing_email' },
    request,
    (shown) => parts.recovery.askEmailChange(secret, { userId, from, to, name }, shown, request),
  )
}

async function profileOf(sessions: Sessions, secret: Buffer) {
  const profile = await sessions.findProfile(secret)
  if (!profile) throw new Problem('unauthenticated')
  return profile
}

// What the world may ask of us

type Options = { sessions: Sessions; recovery: Recovery; devices: Devices }

export const recovery: FastifyPluginAsyncTypebox<Options> = async (app, parts) => {
  app.post(
    '/password/forgot',
    {
      schema: {
        operationId: 'forgotPassword',
        summary: 'Ask for a new password',
        description:
          'Mails a link with a token to whoever has this address; the answer is the same when nobody has. The newest token counts, for half an hour (PASSWORD_RESET_TTL). At most five mails an hour go to one person.',
        security: [],
        body: Forgotten,
        response: { 202: Accepted },
      },
      config: { limit: 'sensitive' },
    },
    async (request, reply) => {
      await parts.recovery.askPasswordReset(request.body.email.toLowerCase(), request)
      reply.code(202)
      return { detail: 'If somebody here has this address, a mail is on its way.' }
    },
  )

  app.post(
    '/password/reset',
    {
      schema: {
        operationId: 'resetPassword',
        summary: 'Choose a new password with the token of a mail',
        description:
          'The token is good once. Every session of the person ends. A second factor stays, unless who signs in was never seen to read the mail: then whoever made the account may have set it, and it goes.',
        security: [],
        body: Reset,
        response: { 204: Type.Null() },
      },
      config: { limit: 'sensitive', problems: ['token_invalid', 'unprocessable'] },
    },
    async (request, reply) => {
      const { email } = await resetPassword(parts, request.body, request)
      // who reads the person's mail is no stranger, whatever strangers have tried meanwhile
      parts.devices.remember(email, request, reply)
      reply.code(204)
      return null
    },
  )

  app.post(
    '/email/verify',
    {
      schema: {
        operationId: 'verifyEmail',
        summary: 'Prove an address with the token of a mail',
        description:
          'The token is good once. That of a change of address changes it. That of a registration (REGISTRATION=verified) makes the account and its tenant, and takes the `password` to sign in with: without one, 422, and it stays good. Who is signed in sends their access token, too: only then is it known that who signs in reads the mail, and a second factor is asked for also after a new password by mail.',
        security: [{ bearer: [] }, {}],
        body: Proof,
        response: { 204: Type.Null() },
      },
      config: { limit: 'sensitive', problems: ['token_invalid', 'unprocessable'] },
    },
    async (request, reply) => {
      await verifyEmail(app, parts, request.body, request)
      reply.code(204)
      return null
    },
  )
}

type OwnOptions = Codes & { recovery: Recovery; own: Own; attempts: Attempts }

/** Registered where an access token is needed. */
export const ownEmail: FastifyPluginAsyncTypebox<OwnOptions> = async (app, parts) => {
  app.post(
    '/email/resend',
    {
      schema: {
        operationId: 'resendVerification',
        summary: 'Have the mail sent again that verifies your address',
        description: 'Nothing is sent when it is verified. The newest token counts. At most five mails an hour.',
        response: { 202: Accepted },
      },
      config: { limit: 'sensitive' },
    },
    async (request, reply) => {
      const { email, name } = await profileOf(parts.sessions, request.claims.secret)
      await parts.recovery.askVerification(request.claims.secret, email, name, request)
      reply.code(202)
      return { detail: 'Unless your address is verified, a mail is on its way.' }
    },
  )

  app.post(
    '/profile/email',
    {
      schema: {
        operationId: 'changeEmail',
        summary: 'Change your e-mail address',
        description:
          'Mails a token to the new address, and word of it to the present one. It changes when the token comes back, to POST /auth/email/verify. Who has a second factor sends a code of it in `totp`: without one the right password is answered 401 `mfa_required`. Whether somebody has the new address does not show.',
        body: NewAddress,
        response: { 202: Accepted },
      },
      config: {
        limit: 'sensitive',
        problems: ['unprocessable', 'mfa_required', 'invalid_code', 'too_many_failures'],
      },
    },
    async (request, reply) => {
      await parts.attempts.inSession(request, () => changeEmail(parts, request.body, request))
      reply.code(202)
      return { detail: 'A mail to the new address is on its way.' }
    },
  )
}
