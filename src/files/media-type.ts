/** What a file is, by its first bytes; and as what it may be answered. */
import { isUtf8 } from 'node:buffer'
import { fileTypeFromBuffer } from 'file-type'

/** So much of a file is looked at. */
export const HEAD_BYTES = 65_536

const MEDIA_TYPE = /^[a-z0-9][a-z0-9!#$&^_.+-]{0,62}\/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}$/

/** Those that are text, and are told from each other only by who wrote them. */
const TEXTUAL =
  /^text\/|^application\/(.+\+)?(json|xml|yaml|x-ndjson|jsonl|javascript|sql|toml|rtf|x-sh)$|^image\/svg\+xml$/

/**
 * The media type of what begins with `head`, which is all of it where `whole` is true. What has a signature is what that
 * says, whatever was declared; text is the text that it was declared to be, else `text/plain`; the rest is bytes.
 */
export const sniff = async (head: Buffer, whole: boolean, declared: string | undefined): Promise<string> => {
  if (head.length === 0) return BYTES
  // of a file that only begins like one of a kind the library may throw
  const found = await fileTypeFromBuffer(head).catch(() => undefined)
  const isXml = found?.mime === 'application/xml' // the one signature that is text, and of many kinds
  if (found && !isXml) {
    const type = bare(found.mime)
    return MEDIA_TYPE.test(type) ? type : BYTES
  }
  if (!isText(head, whole)) return BYTES
  const type = bare(declared ?? '')
  if (TEXTUAL.test(type) && MEDIA_TYPE.test(type)) return type
  return isXml ? 'application/xml' : 'text/plain'
}

const BYTES = 'application/octet-stream'

/** Without parameters, in lower case. */
const bare = (type: string): string => type.replace(/;.*$/s, '').trim().toLowerCase()

/** UTF-8 without control characters but white space. The last character of a part may be cut. */
const isText = (head: Buffer, whole: boolean): boolean => {
  if (head.some((byte) => byte < 0x20 && !WHITE.has(byte))) return false
  const cuts = whole ? [0] : [0, 1, 2, 3]
  return cuts.some((cut) => isUtf8(head.subarray(0, head.length - cut)))
}
const WHITE = new Set([0x09, 0x0a, 0x0c, 0x0d])

/** Types that a browser shows or plays, and never runs. */
const PASSIVE =
  /^((image|audio|video|font)\/(?!.*xml)|text\/(plain|csv|markdown|calendar)$|application\/(pdf|zip|gzip|json|x-ndjson|octet-stream)$|application\/vnd\.(openxmlformats-officedocument|oasis\.opendocument)\.[\w.-]+$)/

/** As what it is answered: whatever could be run in a browser, or is not known, is bytes and nothing else. */
export const servedType = (type: string): string => {
  if (!PASSIVE.test(type)) return BYTES
  return type.startsWith('text/') ? `${type}; charset=utf-8` : type
}
