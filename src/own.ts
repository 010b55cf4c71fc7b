/**
 * The part of the map that is this clone's: its own resources, each under its path, behind all that the project brings.
 * `npm run cli -- new resource` adds to it. The project itself leaves it empty, so that merging it meets no line of yours.
 */

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'

export const ownModules: Readonly<Record<string, FastifyPluginAsyncTypebox>> = {}
