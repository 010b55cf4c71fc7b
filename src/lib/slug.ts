const MAX_LENGTH = 63
const NAMELESS = 'tenant'

/** Letters that Unicode does not take apart into an ASCII letter and its mark. */
const folded: Record<string, string> = {
  ß: 'ss',
  æ: 'ae',
  œ: 'oe',
  ø: 'o',
  đ: 'd',
  ð: 'd',
  ł: 'l',
  þ: 'th',
  ħ: 'h',
  ı: 'i',
  ŋ: 'n',
}

/** Names of hosts that are, or will be, the service's own. */
const RESERVED = new Set(
  `admin api app assets auth billing blog cdn console dashboard dev docs ftp help id imap login mail metrics mx ns ns1 ns2
   operators pop root smtp sso staging static status support test webhooks www`.split(/\s+/),
)

export const isReserved = (slug: string): boolean => RESERVED.has(slug)

/**
 * A tenant's slug made from its name: a label of a host name (RFC 1123) in lower case, never empty, and never of the form
 * `xn--…` that host names keep for themselves.
 */
export const slugOf = (name: string): string => {
  const slug = labelOf(name) || NAMELESS
  return isReserved(slug) ? `${slug}-${NAMELESS}` : slug
}

const labelOf = (name: string): string =>
  name
    .normalize('NFKD')
    .replace(/\p{M}/gu, '')
    .toLowerCase()
    .replace(/[ßæœøđðłþħıŋ]/g, (letter) => folded[letter] ?? '')
    .replace(/['’]/g, '')
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, MAX_LENGTH + 1)
    .replace(/^-+/, '')
    .slice(0, MAX_LENGTH)
    .replace(/-+$/, '')
