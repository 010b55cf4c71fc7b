/** The commands about the audit log: `npm run cli -- audit` lists them. */
import { forgetCommand } from './audit-forget.ts'
import { type Command, UsageError } from './command.ts'

const commands: Readonly<Record<string, Command>> = {
  forget: forgetCommand,
}

const list = (): string =>
  Object.entries(commands)
    .map(([name, { usage, summary, help }]) => `audit ${name} ${usage}\n${[summary, ...help.split('\n')].join('\n  ')}`)
    .join('\n\n')

export const auditCommand: Command = {
  usage: `${Object.keys(commands).join('|')} …`,
  summary: 'What is done about the audit log: erasing a person from it.',
  help: list(),

  async run([name = '', ...args], env) {
    const command = Object.hasOwn(commands, name) ? commands[name] : undefined
    if (!command)
      throw new UsageError(`audit needs one of ${Object.keys(commands).join(', ')}: npm run cli -- help audit`)
    return command.run(args, env)
  },
}
