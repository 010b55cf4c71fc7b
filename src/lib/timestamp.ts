const FORM = /^(\d{4}-\d\d-\d\d)T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:[0-5]\d)$/
const FIRST = Date.parse('0001-01-01T00:00:00Z')
const LAST = Date.parse('9999-12-31T23:59:59.999Z')

/**
 * Whether a text is a time of RFC 3339 (section 5.6) that we can answer with, in UTC, in the same form: its instant is one
 * of the years 0001 to 9999 there, whatever its offset makes of it. It may have no leap second, since PostgreSQL keeps none.
 */
export const isTimestamp = (text: string): boolean => {
  const day = FORM.exec(text)?.[1]
  const instant = Date.parse(text)
  return day !== undefined && isDay(day) && instant >= FIRST && instant <= LAST
}

/** Date.parse takes the 30th of February for the 2nd of March. */
const isDay = (day: string): boolean => {
  const start = Date.parse(`${day}T00:00:00Z`)
  return !Number.isNaN(start) && new Date(start).toISOString().startsWith(day)
}
