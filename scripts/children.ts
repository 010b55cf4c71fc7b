import { spawn } from 'node:child_process'
import { once } from 'node:events'
import pretty from 'pino-pretty'
import { Refusal } from './progress.ts'
import { endWithUs } from './watch.ts'

export type Child = {
  /** Settles when the process says that it serves; rejects when it ends before that. */
  readonly ready: Promise<void>
  /** Settles when it has ended, with how. */
  readonly ended: Promise<string>
  /** SIGTERM, and its own grace; SIGKILL when it does not end. */
  stop(): Promise<void>
  kill(): void
}

type Options = { file: string; label: string; env: NodeJS.ProcessEnv }

/** How long a process may take to stop beyond what it allows itself. */
const PATIENCE_MS = 60_000

/** Runs one of the project's processes, with its log for people to read. */
export const startChild = ({ file, label, env }: Options): Child => {
  const child = spawn(process.execPath, [file], {
    env,
    // A session of its own: Ctrl-C reaches the script alone, which decides what stops when.
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  })
  const watcher =
    child.pid === undefined ? undefined : endWithUs(child.pid, { signal: 'TERM', graceSeconds: PATIENCE_MS / 1000 })
  const ended = new Promise<string>((done) => {
    child.on('error', ({ message }) => done(message))
    child.on('exit', (code, signal) => done(signal ?? `exit code ${code}`))
  })
  void ended.then(() => watcher?.release())

  const failed = ended.then((how) => {
    throw new Refusal(`The ${label} did not start (${how}); the reason is above.`)
  })
  const ready = Promise.race([once(child, 'message').then(() => {}), failed])
  // Whoever waits for it hears of it; after that it is no failure to start any more.
  failed.catch(() => {})
  // Until then its log waits, so as not to run into the progress of the steps.
  const show = () => child.stdout?.pipe(prettyLog(label))
  ready.then(show, show)

  const stop = async () => {
    child.kill('SIGTERM')
    const patience = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS)
    await ended
    clearTimeout(patience)
  }
  return { ready, ended, stop, kill: () => child.kill('SIGKILL') }
}

const prettyLog = (label: string) =>
  pretty({
    colorize: process.stdout.isTTY === true,
    translateTime: 'SYS:HH:MM:ss',
    messageFormat: `${label}: {msg}`,
    singleLine: true,
    sync: true,
  })
