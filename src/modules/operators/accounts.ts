import { type FastifyPluginAsyncTypebox, type Static, Type } from '@fastify/type-provider-typebox'
import { sql } from 'kysely'
import { Email, Name, NewPassword } from '../../auth/fields.ts'
import { hashPassword, weaknessOf } from '../../auth/passwords.ts'
import type { OperatorDb } from '../../db/door.ts'
import { Problem } from '../../errors.ts'
import { ListQuery, OneOf, Page } from '../../lib/schemas.ts'
import { Operator } from './answers.ts'

// What an operator's account is made of

const NewOperator = Type.Object({ email: Email, name: Name, password: NewPassword }, { additionalProperties: false })

const OperatorList = ListQuery(['created_at', 'email', 'name'], {
  status: Type.Optional(OneOf(['active', 'deactivated'])),
  email: Type.Optional(Type.String({ maxLength: 254 })),
})

// What we ask of the database

const columns = ['id', 'email', 'name', 'status', 'created_by', 'created_at', 'updated_at', 'version'] as const

/** The view shows rows of a table, none of whose columns is null but created_by; PostgreSQL does not say so of views. */
type Account = Static<typeof Operator>

const listAccounts = (db: OperatorDb, { status, email }: Static<typeof OperatorList>) => {
  let list = db.selectFrom('operator_accounts').select(columns).$castTo<Account>()
  if (status !== undefined) list = list.where('status', '=', status)
  if (email !== undefined) list = list.where('email', '=', email.toLowerCase())
  return list
}

const findAccount = (db: OperatorDb, id: string) =>
  db
    .selectFrom('operator_accounts')
    .select(columns)
    .$castTo<Account>()
    .where('id', '=', id)
    .executeTakeFirstOrThrow(() => new Problem('not_found'))

async function addAccount(db: OperatorDb, { email, name, password }: Static<typeof NewOperator>): Promise<Account> {
  const hash = await hashPassword(password)
  const { rows } = await sql<{ id: string }>`select app.add_operator(${email}, ${name}, ${hash}) as id`.execute(db)
  return findAccount(db, rows[0]?.id ?? '')
}

// What the world may ask of us

export const operatorAccounts: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/',
    {
      schema: {
        operationId: 'listOperators',
        summary: 'List operators',
        querystring: OperatorList,
        response: { 200: Page(Operator) },
      },
      config: { operator: true },
    },
    async (request) => request.page(listAccounts(request.operatorDb, request.query), request.query),
  )

  app.post(
    '/',
    {
      schema: {
        operationId: 'createOperator',
        summary: 'Create an operator',
        description: 'The first one is made on the command line: `npm run cli -- operator create`.',
        body: NewOperator,
        response: { 201: Operator },
      },
      config: { operator: true, limit: 'sensitive', problems: ['email_taken'] },
    },
    async ({ operatorDb, body }, reply) => {
      const email = body.email.toLowerCase()
      const weakness = weaknessOf(body.password, { email, tenantNames: [] })
      if (weakness) throw new Problem('unprocessable', { errors: [{ path: '/password', message: weakness }] })
      const account = await addAccount(operatorDb, { ...body, email })
      reply.code(201).header('location', `${app.prefix}/${account.id}`)
      return account
    },
  )
}
