import { type FastifyPluginAsyncTypebox, Type } from '@fastify/type-provider-typebox'
import { Problem, type ProblemCode, problems } from '../errors.ts'

// What a kind of problem looks like

const ProblemKind = Type.Object({
  code: Type.String({ examples: ['name_taken'] }),
  status: Type.Integer({ examples: [409] }),
  title: Type.String({ examples: ['This name is taken in this tenant.'] }),
})

// What the world may ask of us

/** Where the `type` of every problem document leads. */
export const problemKinds: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/:code',
    {
      schema: {
        operationId: 'getProblemKind',
        summary: 'What a problem code means',
        description: 'Where the `type` of a problem leads.',
        tags: ['problems'],
        security: [],
        params: Type.Object({
          code: Type.String({ maxLength: 64, description: 'The `code` of a problem.', examples: ['name_taken'] }),
        }),
        response: { 200: ProblemKind },
      },
      config: { problems: ['route_not_found'] },
    },
    async ({ params: { code } }) => {
      if (!isProblemCode(code)) throw new Problem('route_not_found')
      const [status, title] = problems[code]
      return { code, status, title }
    },
  )
}

const isProblemCode = (code: string): code is ProblemCode => Object.hasOwn(problems, code)
