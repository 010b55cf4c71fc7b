import { isUuid } from '../lib/uuid.ts'
import type { ObjectKey } from './store.ts'

/** The tenant's own part of a store. Throws for what is no id: it would lead elsewhere. */
export const tenantPath = (tenantId: string): string => {
  if (!isUuid(tenantId)) throw new TypeError('not the id of a tenant')
  return tenantId
}

export const objectPath = ({ tenantId, id }: ObjectKey): string => {
  if (!isUuid(id)) throw new TypeError('not the id of an object')
  return `${tenantPath(tenantId)}/${id}`
}
