/**
 * The mails that tell a tenant's owners of an operator who asks to be let in. Their addresses are found as app_auth, and
 * sealed, before the operator's transaction begins, which writes the mails: as app_operator nobody learns an address.
 */
import type pg from 'pg'
import { statement } from '../db/pool.ts'
import type { MailKeys, SealedMail } from '../mail/seal.ts'

export type OwnersNotice = ReturnType<typeof makeOwnersNotice>

/** `pool` is of app_auth. */
export const makeOwnersNotice =
  ({ pool, mails }: { pool: pg.Pool; mails: MailKeys }) =>
  /** One for each owner; none for what is no tenant. Throws a DatabaseError, BH001, when the operator's session has ended. */
  async (operatorSecret: Buffer, tenantId: string): Promise<{ ownerId: string; mail: SealedMail }[]> => {
    const { rows } = await pool.query<Owner>(
      statement('select * from app.owners_to_tell($1, $2)', [operatorSecret, tenantId]),
    )
    return rows.map(({ user_id: ownerId, email: to, name, tenant_name: tenant, operator_name: inviter }) => ({
      ownerId,
      mail: mails.seal({ kind: 'access_asked', to, name, tenant, inviter }),
    }))
  }

type Owner = { user_id: string; email: string; name: string; tenant_name: string; operator_name: string }
