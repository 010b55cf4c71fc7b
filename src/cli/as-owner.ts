import type pg from 'pg'
import { isDatabaseError } from '../errors.ts'
import { unreachable, withClient } from './database.ts'

/**
 * Runs `work` as the owner of the schema, on the login that migrates, and answers exit code 0. What the database refuses with
 * one of the SQLSTATEs `refusals` is said to people in its own words.
 */
export const asOwner = (
  ownerUrl: string,
  refusals: readonly string[],
  work: (client: pg.Client) => Promise<void>,
): Promise<number> =>
  withClient(ownerUrl, async (client) => {
    await client.query('set role app_owner')
    await work(client).catch((error) => {
      if (isDatabaseError(error) && refusals.includes(error.code)) throw new Error(error.message)
      throw error
    })
    return 0
  }).catch(unreachable)
