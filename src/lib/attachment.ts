/** `Content-Disposition` of an attachment (RFC 6266): the name as it is for those who read RFC 8187, in ASCII for others. */
export const attachmentOf = (name: string): string => {
  const plain = name.replace(/[^\x20-\x7e]/gu, '_').replace(/["\\%]/g, '_')
  const field = `attachment; filename="${plain}"`
  return plain === name ? field : `${field}; filename*=UTF-8''${encode(name)}`
}

/** All but `attr-char`. */
const encode = (text: string): string =>
  encodeURIComponent(text).replace(/['()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`)
