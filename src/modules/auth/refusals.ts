/** What the routes of a person refuse alike: a field, a password, a choice of tenant. The last two are written down. */
import type { FastifyRequest } from 'fastify'
import { FailedAttempt } from '../../auth/attempts.ts'
import type { Account, Credential } from '../../auth/own.ts'
import { isPassword } from '../../auth/passwords.ts'
import type { LogsRefusals } from '../../auth/security-log.ts'
import type { Sessions } from '../../auth/sessions.ts'
import { isDatabaseError, Problem } from '../../errors.ts'

export const refused = (path: string, message: string) => new Problem('unprocessable', { errors: [{ path, message }] })

/** The same for a password or a code that is wrong, which counts: the next one may have to wait. */
export const failed = (path: string, message: string) =>
  new FailedAttempt('unprocessable', { errors: [{ path, message }] })

/** The caller's credential, after they said their password. Throws a FailedAttempt, at `path`, when it is another one. */
export async function confirmPassword(
  { own, sessions }: { own: Pick<Account, 'findCredential'>; sessions: LogsRefusals },
  { path, password }: { path: string; password: string },
  request: FastifyRequest,
): Promise<Credential & { password_hash: string }> {
  const credential = await own.findCredential(request.claims.secret)
  const { user_id: userId, password_hash } = credential
  const genuine = await isPassword(password, password_hash)
  if (!genuine || password_hash === null) {
    await sessions.logRefusal(request, 'password_refused', { userId })
    throw failed(path, 'is not your password')
  }
  return { ...credential, password_hash }
}

type Choice = { userId: string; tenantId: string | undefined; slug?: string | undefined }

/** A tenant that is not theirs, or is suspended, is refused as `work` throws it. */
export async function choosingTenant<T>(
  sessions: Sessions,
  { userId, tenantId, slug }: Choice,
  request: FastifyRequest,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (isDatabaseError(error) && (error.code === 'BH002' || error.code === 'BH003')) {
      const detail = { slug, refused: error.code }
      await sessions.logRefusal(request, 'tenant_refused', { userId, tenantId, detail })
    }
    throw error
  }
}
