import { isReserved } from './slug.ts'
import { isUuid } from './uuid.ts'

/** What a request says about its tenant, before the database decides whether the caller may enter it. */
export type TenantSelection = { tenantId: string | undefined; tenantSlug: string | undefined }

export type Selection = TenantSelection | 'conflict' | 'missing' | 'malformed'

/**
 * The tenant from the token's claim, the `X-Tenant-ID` header and the subdomain of `baseDomain`. Claim and header are ids
 * and are compared here; a subdomain is a slug, which only the database can compare with an id.
 */
export function selectTenant(
  claim: string | undefined,
  header: string | undefined,
  host: string,
  baseDomain: string | undefined,
): Selection {
  const named = header?.toLowerCase()
  if (claim !== undefined && named !== undefined && named !== claim) return 'conflict'
  if (named !== undefined && !isUuid(named)) return 'malformed'

  const tenantId = claim ?? named
  const tenantSlug = baseDomain === undefined ? undefined : subdomainOf(host, baseDomain)
  return tenantId === undefined && tenantSlug === undefined ? 'missing' : { tenantId, tenantSlug }
}

/**
 * `acme.example.com` under `example.com` → `acme`. The base itself, the service's own names below it (`api`, `www`) and other
 * hosts name no tenant.
 */
function subdomainOf(host: string, baseDomain: string): string | undefined {
  const name = host
    .toLowerCase()
    .replace(/:\d*$/, '') // a port may be empty (RFC 3986, 3.2.3)
    .replace(/\.$/, '')
  if (!name.endsWith(`.${baseDomain}`)) return undefined
  const slug = name.slice(0, -baseDomain.length - 1)
  return isReserved(slug) ? undefined : slug
}
