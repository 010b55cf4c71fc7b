/** One of each of this clone's own resources, for the tests that look at all. The project itself leaves it empty. */

import type { Sample } from './sample.ts'

export const ownSamples: readonly Sample[] = []
