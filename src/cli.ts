/**
 * Every command of operators and DBAs: `npm run cli` lists them, `npm run cli -- help migrate` explains one.
 * A command is an entry of the table; what it does is in src/cli, a file for each group.
 */
import { auditCommand } from './cli/audit.ts'
import type { Command } from './cli/command.ts'
import { UsageError } from './cli/command.ts'
import { bootstrapCommand, lawsCommand, migrateCommand } from './cli/database.ts'
import { keysCommand } from './cli/keys.ts'
import { mailsCommand } from './cli/mails.ts'
import { newCommand } from './cli/new.ts'
import { operatorCommand } from './cli/operator.ts'
import { policiesCommand } from './cli/policies.ts'
import { proveCommand } from './cli/prove.ts'
import { psqlCommand } from './cli/psql.ts'
import { seedCommand } from './cli/seed.ts'
import { tenantsCommand } from './cli/tenants.ts'
import { tokenCommand } from './cli/token.ts'
import { usersCommand } from './cli/users.ts'
import { ConfigError } from './config.ts'
import { loadEnvFile } from './processes.ts'

const commands: Readonly<Record<string, Command>> = {
  migrate: migrateCommand,
  bootstrap: bootstrapCommand,
  laws: lawsCommand,
  prove: proveCommand,
  psql: psqlCommand,
  audit: auditCommand,
  policies: policiesCommand,
  operator: operatorCommand,
  tenants: tenantsCommand,
  users: usersCommand,
  mails: mailsCommand,
  keys: keysCommand,
  token: tokenCommand,
  seed: seedCommand,
  new: newCommand,
}

const list = (): string => {
  const width = Math.max(...Object.keys(commands).map((name) => name.length))
  const lines = Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`)
  return ['npm run cli -- COMMAND', '', ...lines, '', 'npm run cli -- help COMMAND explains one.'].join('\n')
}

const explain = (name: string, { usage, summary, help }: Command): string =>
  [`npm run cli -- ${`${name} ${usage}`.trim()}`, '', summary, '', help].join('\n')

const main = async ([name = 'help', ...args]: string[]): Promise<number> => {
  const asked = name === 'help' || name === '--help' || name === '-h' ? args[0] : name
  if (asked === undefined) {
    console.log(list())
    return 0
  }
  const command = Object.hasOwn(commands, asked) ? commands[asked] : undefined
  if (!command) throw new UsageError(`there is no command ${asked}: npm run cli lists them`)
  if (asked !== name || args.includes('--help')) {
    console.log(explain(asked, command))
    return 0
  }
  loadEnvFile()
  loadEnvFile('.data/running.env') // of `npm start`, while its database runs
  return command.run(args, process.env)
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  const lines = error instanceof ConfigError ? error.faults : [error instanceof Error ? error.message : String(error)]
  for (const line of lines) console.error(line)
  process.exitCode = error instanceof UsageError || error instanceof ConfigError ? 2 : 1
}
