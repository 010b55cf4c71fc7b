/** Commands as src/cli.ts runs them, without a process for each. */
import { onTestFinished, vi } from 'vitest'
import type { Command } from '../../src/cli/command.ts'
import type { Environment } from '../../src/config.ts'

export type Outcome = { code: number; lines: string[]; error: string }

/** What it says, and what it refuses with; exit codes as src/cli.ts has them. */
export const runCommand = async (command: Command, args: string[], env: Environment): Promise<Outcome> => {
  const lines: string[] = []
  const spy = vi.spyOn(console, 'log').mockImplementation((line: unknown) => void lines.push(String(line)))
  onTestFinished(() => spy.mockRestore())
  try {
    return { code: await command.run(args, env), lines, error: '' }
  } catch (error) {
    const { name, message } = error as Error
    return { code: name === 'UsageError' || name === 'ConfigError' ? 2 : 1, lines, error: message }
  } finally {
    spy.mockRestore()
  }
}
