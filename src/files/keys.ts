import type { ObjectKey } from './store.ts'

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** The tenant's own part of a store. Throws for what is no id: it would lead elsewhere. */
export const tenantPath = (tenantId: string): string => {
  if (!UUID.test(tenantId)) throw new TypeError('not the id of a tenant')
  return tenantId
}

export const objectPath = ({ tenantId, id }: ObjectKey): string => {
  if (!UUID.test(id)) throw new TypeError('not the id of an object')
  return `${tenantPath(tenantId)}/${id}`
}
