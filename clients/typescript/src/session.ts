import { problemOf } from './problem.ts'
import type { operations } from './schema.ts'

/** What login, registration, refresh and switching of tenants answer, as far as a session needs it. */
export type Tokens = Pick<TokenAnswer, 'access_token' | 'refresh_token' | 'expires_in'>
type TokenAnswer = operations['refreshToken']['responses'][200]['content']['application/json']

export type SessionOptions = {
  baseUrl?: string
  /** Of a login. Without a refresh token the session is one of a browser, whose cookie has it (`"cookie": true`). */
  tokens: Tokens
  /** Is told of new tokens, to keep them: the old refresh token is good no more. */
  onRenewed?: (tokens: Tokens) => void | Promise<void>
  fetch?: (request: Request) => Promise<Response>
}

export type Session = {
  /** An access token, renewed when its time is over. Throws a Problem `invalid_token` when the session has ended. */
  token(): Promise<string>
  /** Another one in the place of `refused`, which the server did not take; undefined when the session has ended. */
  renew(refused: string): Promise<string | undefined>
}

/** Renewed so long before its end, for the way and for clocks that differ. */
const EARLY_MS = 10_000
const PATH = '/api/v1/auth/token/refresh'

/** Keeps a person signed in: of many requests at once that need a new token, one asks for it, and all go on with that. */
export const createSession = (options: SessionOptions): Session => {
  const { baseUrl = '', onRenewed, fetch: send = (request: Request) => globalThis.fetch(request) } = options
  const endOf = ({ expires_in }: Tokens) => Date.now() + expires_in * 1000
  let tokens = options.tokens
  let end = endOf(tokens)
  let renewing: Promise<Tokens> | undefined

  const ask = (): Promise<Response> => {
    const { refresh_token } = tokens
    return send(
      new Request(`${baseUrl.replace(/\/+$/, '')}${PATH}`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify(refresh_token === undefined ? { cookie: true } : { refresh_token }),
        ...(refresh_token === undefined && { credentials: 'include' }),
      }),
    )
  }

  const renewed = async (): Promise<Tokens> => {
    // once more when there was no answer: within some seconds the same refresh token has the same successor
    const response = await ask().catch(ask)
    const answer: unknown = await response.json().catch(() => undefined)
    if (!response.ok) throw problemOf(answer, response)
    const { access_token, refresh_token, expires_in } = answer as Tokens
    tokens = { access_token, expires_in, ...(refresh_token !== undefined && { refresh_token }) }
    end = endOf(tokens)
    await onRenewed?.(tokens)
    return tokens
  }

  const renewOnce = async (): Promise<string> => {
    renewing ??= renewed().finally(() => {
      renewing = undefined
    })
    return (await renewing).access_token
  }

  return {
    token: async () => (Date.now() < end - EARLY_MS ? tokens.access_token : renewOnce()),
    renew: async (refused) => {
      if (tokens.access_token !== refused) return tokens.access_token
      try {
        return await renewOnce()
      } catch (error) {
        if ((error as { status?: unknown }).status === 401) return undefined
        throw error
      }
    },
  }
}
