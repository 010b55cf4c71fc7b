import { escapePointer } from './flaws.ts'

/** What a validator of JSON Schema says is wrong (Ajv's shape). */
export type SchemaError = {
  instancePath: string
  schemaPath: string
  keyword: string
  params: Record<string, unknown>
  message?: string | undefined
}

const MOST = 20

/** Schema errors for people: where, as a JSON pointer, and what is expected there; nothing of how the schema is built. */
export const fieldErrorsOf = (errors: readonly SchemaError[]): { path: string; message: string }[] => {
  const choices = errors.filter(({ keyword }) => keyword === 'anyOf' || keyword === 'oneOf')
  const isBranch = ({ schemaPath }: SchemaError) =>
    choices.some((choice) => schemaPath !== choice.schemaPath && schemaPath.startsWith(`${choice.schemaPath}/`))

  return errors
    .filter((error) => !isBranch(error))
    .slice(0, MOST)
    .map((error) => ({ path: pathOf(error), message: messageOf(error, errors) }))
}

const pathOf = ({ instancePath, params }: SchemaError): string => {
  const name = params.missingProperty ?? params.additionalProperty ?? params.unevaluatedProperty
  return typeof name === 'string' ? `${instancePath}/${escapePointer(name)}` : instancePath
}

const messageOf = (error: SchemaError, errors: readonly SchemaError[]): string => {
  const { keyword, params, message = 'is not as expected' } = error
  switch (keyword) {
    case 'required':
      return 'is required'
    case 'additionalProperties':
    case 'unevaluatedProperties':
      return 'is not a known field'
    case 'pattern':
      return 'does not have the expected form'
    case 'format':
      return `must be a valid ${String(params.format)}`
    case 'const':
      return `must be ${JSON.stringify(params.allowedValue)}`
    case 'enum':
      return `must be one of ${listOf(params.allowedValues)}`
    case 'anyOf':
    case 'oneOf':
      return choiceOf(error, errors)
    default:
      return message
  }
}

/** A union of literals reads as the list of them; any other union only as what it is not. */
const choiceOf = ({ schemaPath }: SchemaError, errors: readonly SchemaError[]): string => {
  const branches = errors.filter((error) => error.schemaPath.startsWith(`${schemaPath}/`))
  const literals = branches.filter(({ keyword }) => keyword === 'const').map(({ params }) => params.allowedValue)
  return literals.length > 0 && literals.length === branches.length
    ? `must be one of ${listOf(literals)}`
    : 'has none of the allowed forms'
}

const listOf = (values: unknown): string =>
  Array.isArray(values) ? values.map((value) => JSON.stringify(value)).join(', ') : ''
