import { expect, test } from 'vitest'
import { demoPassword } from '../../scripts/seed.ts'
import { world } from '../harness.ts'

const it = world({ env: { TRUST_PROXY: 'loopback' } })

test.each([
  ['198.51.100.7', '198.51.100.7'],
  ['2001:db8::7', '2001:db8::7'],
  ['fe80::1%eth0', 'fe80::1'],
  ['garbage', null],
  [`'; drop table app.users --`, null],
  ['198.51.100.7:4711', '198.51.100.7'],
])('a proxy says that the client is %s: the security log has %s', async (said, logged) => {
  const headers = { 'x-forwarded-for': said, 'user-agent': `\u00e9${'x'.repeat(900)}` }
  const attempts = ['something else entirely', demoPassword].map((password) =>
    it.anybody.post('/auth/login', { email: 'owner@acme.test', password }, headers),
  )
  const answers = await Promise.all(attempts)
  expect(answers.map(({ statusCode }) => statusCode)).toEqual([401, 200])

  for (const answer of answers) {
    const { rows } = await it.superuser.query(
      'select host(address) as address, char_length(user_agent) as length from app.security_log where request_id = $1',
      [answer.headers['x-request-id']],
    )
    expect(rows).toEqual([{ address: logged, length: 500 }])
  }
})
