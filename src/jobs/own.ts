/** What this clone adds to the map of jobs. The project itself leaves it empty. */

import type { AnyJob } from './define.ts'
import type { Schedule } from './map.ts'

export const ownJobs: readonly AnyJob[] = []

export const ownSchedules: readonly Schedule[] = []
