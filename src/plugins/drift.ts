import fp from 'fastify-plugin'
import type { LawWatch } from '../drift.ts'
import { Problem } from '../errors.ts'

/** Refuses everything of this scope while the database is not as its laws say: nothing else keeps tenants apart. */
export const drift = fp<{ laws: LawWatch | undefined }>(
  async (app, { laws }) => {
    app.addHook('onRequest', (_request, _reply, done) => done(driftOf(laws)))
  },
  { name: 'drift', dependencies: ['errors'] },
)

/** The refusal, while there is cause for it. */
export const driftOf = (laws: LawWatch | undefined): Problem | undefined =>
  laws?.drifted ? new Problem('drift', { headers: { 'retry-after': String(laws.retryAfter) } }) : undefined
