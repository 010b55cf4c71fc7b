import { totalmem } from 'node:os'
import { constrainedMemory } from 'node:process'
import { getHeapStatistics } from 'node:v8'
import fastifyUnderPressure from '@fastify/under-pressure'
import fp from 'fastify-plugin'
import { Problem } from '../errors.ts'

export type Pressure = { maxEventLoopDelayMs: number; maxHeapBytes: number; maxRssBytes: number }

const SAMPLE_MS = 500

/** Nine tenths of what the container or machine, and the engine's heap, have. */
const ceilings = () => ({
  maxHeapBytes: Math.floor(getHeapStatistics().heap_size_limit * 0.9),
  maxRssBytes: Math.floor(Math.min(constrainedMemory() || totalmem(), totalmem()) * 0.9),
})

/** Sheds load while there is still strength to say so: better some refused at once than all answered too late. */
export const underPressure = fp<{ limits: Pick<Pressure, 'maxEventLoopDelayMs'> & Partial<Pressure> }>(
  async (app, options) => {
    const limits: Pressure = { ...ceilings(), ...options.limits }
    await app.register(fastifyUnderPressure, {
      maxEventLoopDelay: limits.maxEventLoopDelayMs,
      maxHeapUsedBytes: limits.maxHeapBytes,
      maxRssBytes: limits.maxRssBytes,
      sampleInterval: SAMPLE_MS,
      pressureHandler: ({ routeOptions, log }, _reply, type, value) => {
        if (routeOptions.config.probe) return
        // Not late without bound, but without a sample: the process was stopped, or held up for a whole interval. By the
        // next one it is known how late it was.
        if (value === Number.POSITIVE_INFINITY) return
        log.warn({ pressure: type, value }, 'shedding load')
        throw new Problem('overloaded', { headers: { 'retry-after': '5' } })
      },
    })
  },
  { name: 'under-pressure', dependencies: ['errors'] },
)
