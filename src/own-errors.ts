/** What this clone adds to the tables of errors.ts, where each is explained. The project itself leaves them empty. */
import type { FieldError, ProblemCode } from './errors.ts'

export const ownProblems = {} as const satisfies Record<string, readonly [status: number, title: string]>

export const ownConstraints: Readonly<Record<string, ProblemCode>> = {}

export const ownReferred: Readonly<Record<string, ProblemCode>> = {}

export const ownFields: Readonly<Record<string, FieldError>> = {}
