import { spawn } from 'node:child_process'
import type { Socket } from 'node:net'

export type Watcher = { release(): void }

type Ending = {
  signal: 'INT' | 'TERM'
  /** How long it may take; after that it is killed. */
  graceSeconds?: number
}

const script = `
  read _ && exit
  kill -s "$2" "$1" || exit
  while [ "$3" ] && kill -0 "$1"; do
    [ "$(( left = \${left-$3} - 1 ))" -ge 0 ] || exec kill -s KILL "$1"
    sleep 1
  done`

/**
 * Ends a process when this one is gone, however it went: a shell in a session of its own waits for the end of a pipe
 * that only we hold, and the kernel closes that even after a SIGKILL. (Not on Windows, which has no such signals.)
 */
export const endWithUs = (pid: number, { signal, graceSeconds }: Ending): Watcher => {
  if (process.platform === 'win32') return { release() {} }
  const watcher = spawn('/bin/sh', ['-c', script, 'watch', String(pid), signal, String(graceSeconds ?? '')], {
    cwd: '/',
    env: { PATH: '/usr/bin:/bin' },
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  // Neither the watcher nor its pipe keeps this process alive, and its end is no error of ours.
  watcher.on('error', () => {})
  watcher.stdin.on('error', () => {})
  watcher.unref()
  ;(watcher.stdin as Socket).unref()
  return {
    release() {
      watcher.kill('SIGKILL')
    },
  }
}
