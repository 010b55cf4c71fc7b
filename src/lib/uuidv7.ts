/** The smallest UUID version 7 (RFC 9562, 5.7) of a moment, in milliseconds; that of 1970 for any before. */
export const uuidv7Floor = (ms: number): string => {
  const time = Math.max(0, ms).toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-0000-0000-000000000000`
}
