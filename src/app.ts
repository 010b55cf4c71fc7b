/** THE MAP: every plugin and module, in the order in which a request meets them. Blank lines are the walls. */
import { readFileSync } from 'node:fs'
import Fastify, { type FastifyBaseLogger, type FastifyInstance, type FastifyRequest } from 'fastify'
import type pg from 'pg'
import { makeApiKeys } from './auth/api-keys.ts'
import { makeAttempts } from './auth/attempts.ts'
import { makeDevices } from './auth/devices.ts'
import { makeInvitations } from './auth/invitations.ts'
import { makeNewOwner } from './auth/new-owner.ts'
import { makeOperatorOwn } from './auth/operator-own.ts'
import { makeOperatorTokens } from './auth/operator-tokens.ts'
import { makeOperatorSessions } from './auth/operators.ts'
import { makeOwn } from './auth/own.ts'
import { makeOwnersNotice } from './auth/owners-notice.ts'
import { makeRecovery } from './auth/recovery.ts'
import { makeSecondFactors } from './auth/second-factors.ts'
import { makeSessions } from './auth/sessions.ts'
import type { ServerConfig } from './config.ts'
import type { LawWatch } from './drift.ts'
import { openFileStore } from './files/store.ts'
import { deriveKeys } from './lib/derived-keys.ts'
import { type Logger, makeLogger } from './log.ts'
import { makeMailKeys } from './mail/seal.ts'
import { accessGrants } from './modules/access-grants.ts'
import { actors } from './modules/actors.ts'
import { apiKeys } from './modules/api-keys.ts'
import { audit } from './modules/audit.ts'
import { auditExport } from './modules/audit-export.ts'
import { auditSeals } from './modules/audit-seals.ts'
import { account } from './modules/auth/account.ts'
import { operators } from './modules/auth/audience.ts'
import { erasure } from './modules/auth/erasure.ts'
import { jwks } from './modules/auth/jwks.ts'
import { mfa } from './modules/auth/mfa.ts'
import { own } from './modules/auth/own.ts'
import { profile } from './modules/auth/profile.ts'
import { ownEmail, recovery as recoveryRoutes } from './modules/auth/recovery.ts'
import { registration } from './modules/auth/registration.ts'
import { signIn } from './modules/auth/sign-in.ts'
import { tokens } from './modules/auth/tokens.ts'
import { authz } from './modules/authz.ts'
import { documentDownload } from './modules/document-files/download.ts'
import { documentUpload } from './modules/document-files/upload.ts'
import { documents } from './modules/documents.ts'
import { operatorAccess } from './modules/operators/access.ts'
import { operatorAccounts } from './modules/operators/accounts.ts'
import { tenantDeletion } from './modules/operators/deletion.ts'
import { operatorSignIn } from './modules/operators/sign-in.ts'
import { statistics } from './modules/operators/statistics.ts'
import { tenants } from './modules/operators/tenants.ts'
import { problemKinds } from './modules/problems.ts'
import { projectStatistics } from './modules/project-statistics.ts'
import { projects } from './modules/projects.ts'
import { roles } from './modules/roles.ts'
import { taskBulk } from './modules/tasks/bulk.ts'
import { tasksOfProject } from './modules/tasks/of-project.ts'
import { tasks } from './modules/tasks/tasks.ts'
import { ownTenant } from './modules/tenant.ts'
import { acceptInvitation } from './modules/users/accept.ts'
import { invitations } from './modules/users/invitations.ts'
import { users } from './modules/users/users.ts'
import { ownModules } from './own.ts'
import { accept } from './plugins/accept.ts'
import { accessTokens } from './plugins/access-tokens.ts'
import { auth } from './plugins/auth.ts'
import { bodies } from './plugins/bodies.ts'
import { makeCache } from './plugins/cache.ts'
import { cors } from './plugins/cors.ts'
import { docs } from './plugins/docs.ts'
import { drift } from './plugins/drift.ts'
import { answerClientError, errors, refuse } from './plugins/errors.ts'
import { health } from './plugins/health.ts'
import { https } from './plugins/https.ts'
import { makeIdempotency } from './plugins/idempotency.ts'
import { methods } from './plugins/methods.ts'
import { observability, RequestLog } from './plugins/observability.ts'
import { openapi } from './plugins/openapi.ts'
import { operatorAuth, operatorRoutes } from './plugins/operator.ts'
import { pagination } from './plugins/pagination.ts'
import { personPlaces } from './plugins/person-places.ts'
import { rateLimit } from './plugins/rate-limit.ts'
import { refreshCookie } from './plugins/refresh-cookie.ts'
import { requestId, requestIdOf } from './plugins/request-id.ts'
import { securityHeaders } from './plugins/security-headers.ts'
import { makeShortList } from './plugins/short-list.ts'
import { tenantRoutes } from './plugins/tenant.ts'
import { underPressure } from './plugins/under-pressure.ts'
import { validation } from './plugins/validation.ts'
import { routableUrl, wellFormed } from './plugins/well-formed.ts'
import type { Redis } from './redis.ts'

export type Parts = {
  config: ServerConfig
  /** Connections as app_api, app_auth, and app_operator where there are operators' routes. Whoever made them ends them. */
  pools: { api: pg.Pool; auth: pg.Pool; operator?: pg.Pool }
  redis?: Redis
  log?: Logger
  /** Looks whether the database keeps its laws; whoever made it stops it. */
  laws?: LawWatch
}

/** The application, ready to listen. */
export const buildApp = async (parts: Parts): Promise<FastifyInstance> => {
  const { config, pools, redis, laws, log = makeLogger(config) } = parts
  const app = Fastify({
    loggerInstance: log satisfies FastifyBaseLogger as FastifyBaseLogger,
    logController: new RequestLog(whoAsks),
    genReqId: requestIdOf,
    trustProxy: config.trustProxy.length === 0 ? false : [...config.trustProxy],
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 16_384 },
    rewriteUrl: routableUrl,
    frameworkErrors: refuse,
    clientErrorHandler: answerClientError,
    bodyLimit: 1_048_576,
    requestTimeout: 0, // a file takes longer than anything else: plugins/bodies.ts
    connectionTimeout: 60_000,
    keepAliveTimeout: 72_000, // longer than the idle time of a load balancer, which would else meet a closing door
    http: { requireHostHeader: false, headersTimeout: 30_000, connectionsCheckingInterval: 5_000 },
    return503OnClosing: false, // what has arrived is answered, while the listener is closing
    pluginTimeout: 60_000, // a machine that has much to do starts slowly: that is no fault
  })
  const mails = makeMailKeys(config.encryptionKeys)
  const sessions = makeSessions({
    pool: pools.auth,
    encryptionKeys: config.encryptionKeys,
    idleMs: config.sessions.refreshIdleMs,
    maxMs: config.sessions.maxMs,
    verifiedOnly: config.registration !== 'open',
  })
  const keysInUse = makeApiKeys({
    pool: pools.auth,
    onError: (err) => log.warn({ err }, 'the use of an API key could not be noted'),
  })
  const recovery = makeRecovery({
    pool: pools.auth,
    mails,
    ...config.mailedTokens,
  })
  const ownRows = makeOwn({ pool: pools.auth, mails })
  const devices = makeDevices(config.encryptionKeys, '/api/v1/auth')
  const attempts = makeAttempts({ pool: pools.auth, devices, ...config.failures })
  const factors = {
    ...{ pool: pools.auth, encryptionKeys: config.encryptionKeys },
    ...{ mails, issuer: config.mfaIssuer },
  }
  const secondFactors = makeSecondFactors(factors)
  const codes = { sessions, secondFactors }
  const invited = makeInvitations({
    pool: pools.auth,
    mails,
    ttlMs: config.invitationMs,
  })
  const operatorTokens = pools.operator && makeOperatorTokens({ ...config.jwt, ttlMs: config.sessions.accessTokenMs })
  const keysFor = (purpose: string) =>
    deriveKeys(
      config.encryptionKeys.map(({ key }) => key),
      purpose,
    )
  const cursorKeys = keysFor('bulkhead cursors')
  const shortList = makeShortList(cursorKeys)
  const { files } = config
  const store = openFileStore(files)
  const idempotency = makeIdempotency(keysFor('bulkhead idempotency keys'))
  const cache = redis && makeCache(redis, keysFor('bulkhead cache'))

  // How every request is met, and how every one is answered
  await app.register(observability)
  await app.register(errors)
  await app.register(requestId)
  await app.register(securityHeaders)
  await app.register(underPressure, { limits: config.overload })
  await app.register(wellFormed)
  await app.register(https, { required: config.requireHttps, baseDomain: config.baseDomain })
  await app.register(cors, { origins: config.corsOrigins })
  await app.register(rateLimit, { ...config.limits, redis, callerOf })
  await app.register(bodies, { timeoutMs: 30_000 })
  await app.register(methods)
  await app.register(validation)
  await app.register(openapi, { version })

  // For whoever runs it, and for whoever reads
  await app.register(health, { pools, redis, laws })
  await app.register(problemKinds, { prefix: '/problems' })
  await app.register(jwks, { keys: config.jwt.keys })
  if (config.docsEnabled) await app.register(docs, { prefix: '/api' })

  await app.register(accessTokens, {
    ...config.jwt,
    ttlMs: config.sessions.accessTokenMs,
    // in development, and there only, those of `cli -- token`
    maxAgeMs: config.environment === 'development' ? 86_400_000 : undefined,
  })
  await app.register(
    async (api) => {
      api.register(drift, { laws })
      api.register(accept)

      api.register(
        async (anybody) => {
          anybody.register(refreshCookie, {
            ...{ secure: config.production || config.requireHttps, path: anybody.prefix },
            ...{ maxAgeMs: config.sessions.refreshIdleMs, origins: config.corsOrigins },
          })

          const { registration: mode } = config
          anybody.register(registration, { mode, sessions, recovery, attempts, devices })
          anybody.register(signIn, { ...codes, attempts, devices })
          anybody.register(tokens, { sessions })
          anybody.register(recoveryRoutes, { sessions, recovery, devices })

          anybody.register(async (person) => {
            person.register(auth)
            person.register(personPlaces, { pool: pools.auth })
            person.register(profile, { sessions })
            person.register(account, { sessions, own: ownRows, attempts, shortList })
            person.register(own, { sessions, own: ownRows, shortList })
            person.register(ownEmail, { ...codes, recovery, own: ownRows, attempts })
            person.register(mfa, { sessions, own: ownRows, secondFactors, attempts })
            person.register(erasure, { sessions, own: ownRows, secondFactors, attempts })
          })
        },
        { prefix: '/auth' },
      )

      api.register(acceptInvitation, { prefix: '/invitations', ...codes, invitations: invited, attempts })

      api.register(async (tenant) => {
        tenant.register(auth, { apiKeys: keysInUse, verifyAccess: operatorTokens?.verifyAccess })
        tenant.register(pagination, { keys: cursorKeys })
        tenant.register(tenantRoutes, {
          ...{ pool: pools.api, authPool: pools.auth, apiKeys: keysInUse, idempotency, cache },
          baseDomain: config.baseDomain,
        })

        tenant.register(projects, { prefix: '/projects' })
        tenant.register(projectStatistics, { prefix: '/projects' })
        tenant.register(tasks, { prefix: '/tasks' })
        tenant.register(taskBulk, { prefix: '/tasks' })
        tenant.register(tasksOfProject, { prefix: '/projects' })
        tenant.register(documents, { prefix: '/documents' })
        tenant.register(documentUpload, { prefix: '/documents', ...files, store })
        tenant.register(documentDownload, { prefix: '/documents', ...files, store })
        tenant.register(actors, { prefix: '/actors' })
        tenant.register(ownTenant, { prefix: '/tenant' })
        tenant.register(users, {
          ...{ prefix: '/users', invitations: invited },
          makesPeople: config.registration === 'open',
        })
        tenant.register(invitations, { prefix: '/invitations', invitations: invited })
        tenant.register(roles, { prefix: '/roles', shortList })
        tenant.register(apiKeys, { prefix: '/api-keys' })
        tenant.register(audit, { prefix: '/audit' })
        tenant.register(auditExport, { prefix: '/audit' })
        tenant.register(auditSeals, { prefix: '/audit' })
        tenant.register(authz, { prefix: '/authz' })
        tenant.register(accessGrants, { prefix: '/tenant/access-grants' })
        for (const [prefix, module] of Object.entries(ownModules)) tenant.register(module, { prefix })
      })

      const { operator: pool } = pools
      if (pool && operatorTokens) {
        const { encryptionKeys, mailedTokens, operatorSessions, failures } = config
        const tokens = operatorTokens
        const known = makeDevices(encryptionKeys, '/api/v1/operators')
        const own = {
          sessions: makeOperatorSessions({ pool, encryptionKeys, ...operatorSessions }),
          own: makeOperatorOwn({ pool, mails }),
          secondFactors: makeSecondFactors({ ...factors, holder: 'operator' }),
          attempts: makeAttempts({ pool: pools.auth, devices: known, ...failures }),
          ...{ audience: operators, shortList },
        }
        api.register(operatorSignIn, { prefix: '/operators', ...own, devices: known, tokens })

        api.register(async (operator) => {
          operator.register(operatorAuth, { tokens })
          operator.register(account, { prefix: '/operators', ...own })
          operator.register(mfa, { prefix: '/operators', ...own })

          operator.register(async (inTransaction) => {
            inTransaction.register(operatorRoutes, { pool, idempotency })
            inTransaction.register(pagination, { keys: cursorKeys })

            inTransaction.register(operatorAccounts, { prefix: '/operators' })
            inTransaction.register(statistics, { prefix: '/operators' })
            const ownersNotice = makeOwnersNotice({ pool: pools.auth, mails })
            inTransaction.register(operatorAccess, { prefix: '/operators', tokens, ownersNotice })
            const newOwner = makeNewOwner({ mails, ...mailedTokens })
            inTransaction.register(tenants, { prefix: '/tenants', newOwner })
            inTransaction.register(tenantDeletion, { prefix: '/tenants', graceMs: config.tenantGraceMs })
          })
        })
      }
    },
    { prefix: '/api/v1' },
  )

  await app.ready()
  return app
}

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }

/** Verified claims, on the routes that ask for them. */
const claimsOf = ({ claims }: FastifyRequest): FastifyRequest['claims'] | undefined => claims

/** A key counts as itself once the database has let it in: anybody can write one down, and another for each request. */
const callerOf = (request: FastifyRequest): string | null | undefined =>
  request.apiKey ? (request.apiKey.known?.id ?? null) : (claimsOf(request)?.sub ?? request.operator?.sub)

const whoAsks = (request: FastifyRequest) => {
  const { apiKey } = request
  if (apiKey) return apiKey.known && { tenant_id: apiKey.known.tenantId, actor: apiKey.known.id }
  if (request.operator) return { tenant_id: undefined, actor: request.operator.sub }
  const claims = claimsOf(request)
  return claims && { tenant_id: claims.tenantId, actor: claims.sub }
}
