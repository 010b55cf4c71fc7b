/** What Redocly and Spectral have to say of an OpenAPI document, with all that they can look for. */
import { createConfig, lintFromString } from '@redocly/openapi-core'
import spectral, { type RulesetDefinition } from '@stoplight/spectral-core'
import { oas } from '@stoplight/spectral-rulesets'

/** Rules of Spectral that are not asked, and why. Of Redocly's recommended ones, all are. */
const unasked = {
  'contact-properties': 'whoever runs a server is to be asked of it, and has an address that the source does not know',
  'license-url': 'the licence is named by its SPDX identifier, beside which OpenAPI 3.1 permits no address',
  'openapi-tags-alphabetical': 'the tags are in the order in which somebody new meets them',
} as const

/** One line for each finding, an error or a warning alike: who found it, by which rule, where. */
export const lintDocument = async (text: string): Promise<string[]> => [
  ...(await askRedocly(text)),
  ...(await askSpectral(text)),
]

const askRedocly = async (source: string): Promise<string[]> => {
  const config = await createConfig({ extends: ['recommended-strict'] })
  const found = await lintFromString({ source, absoluteRef: 'openapi.json', config })
  return found.map(({ ruleId, message, location }) => `redocly ${ruleId}: ${message} (${location[0]?.pointer ?? '#/'})`)
}

const askSpectral = async (source: string): Promise<string[]> => {
  const { Spectral } = spectral
  const linter = new Spectral()
  const off = Object.fromEntries(Object.keys(unasked).map((rule) => [rule, 'off' as const]))
  // two packages of one project, whose types have parted
  linter.setRuleset({ extends: [[oas as unknown as RulesetDefinition, 'all']], rules: off })
  const found = await linter.run(source)
  return found.map(({ code, message, path }) => `spectral ${code}: ${message} (#/${path.join('/')})`)
}
