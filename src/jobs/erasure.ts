import { Type } from '@sinclair/typebox'
import { definePlatformJob } from './define.ts'
import type { Platform } from './platform.ts'

/** Rows of one transaction: others wait for no more than these. */
const BATCH = 1_000
/** Of one run; there are more in five minutes. */
const TENANTS = 100
/** How long one run goes on, of the time it may take; what is left comes with the next occurrence. */
const ENOUGH_MS = 500_000

/**
 * Erases tenants that are marked and whose grace has passed, one after the other. How far it has come is in the database: a run
 * that is lost with its worker goes on in another.
 */
export const eraseTenants = definePlatformJob({
  kind: 'tenants.erase',
  payload: Type.Object({}),
  exclusive: true,
  timeout: 600,
  async run(_payload, { platform, signal, log }) {
    const end = Date.now() + ENOUGH_MS
    const failures: unknown[] = []
    for (const tenant of await platform.dueErasures(TENANTS)) {
      try {
        if (!(await erase(tenant, platform, { signal, end }))) break
        log.info({ tenant_id: tenant }, 'a tenant was erased, and there is a certificate')
      } catch (error) {
        signal.throwIfAborted()
        log.error({ err: error, tenant_id: tenant }, 'a tenant could not be erased')
        failures.push(error) // and the others are
      }
    }
    if (failures.length > 0) throw failures[0]
  },
})

/** Whether it was done by `end`, in milliseconds since 1970. */
const erase = async (
  tenant: string,
  platform: Platform,
  { signal, end }: { signal: AbortSignal; end: number },
): Promise<boolean> => {
  for (let gone = BATCH; gone > 0; ) {
    signal.throwIfAborted()
    if (Date.now() > end) return false
    gone = await platform.eraseRows(tenant, BATCH)
  }
  // no row names them any more; and what is certified is certified of them, too
  await platform.eraseFiles(tenant)
  await platform.certifyErasure(tenant)
  return true
}
