/**
 * One record of a CSV file (RFC 4180). Spreadsheets take a cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage
 * return for a formula, quoted or not: such a cell gets a `'` in front, which OWASP recommends and makes it a text. So do
 * the wide forms of these signs, which some take for the same.
 */
export const csvRecord = (cells: readonly (string | null)[]): string => `${cells.map(cellOf).join(',')}\r\n`

const cellOf = (value: string | null): string => {
  if (value === null) return ''
  const text = FORMULA.test(value) ? `'${value}` : value
  return QUOTED.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

const FORMULA = /^[=+\-@\t\r\uFF1D\uFF0B\uFF0D\uFF20]/
const QUOTED = /[",\r\n]/
