import { spawn } from 'node:child_process'
import type { Socket } from 'node:net'

export type Watcher = { release(): void }

/**
 * Ends a process when this one is gone, however it went: a shell in a session of its own waits for the end of a pipe
 * that only we hold, and the kernel closes that even after a SIGKILL. (Not on Windows, which has no such signals.)
 */
export const endWithUs = (pid: number, signal: 'INT' | 'TERM'): Watcher => {
  if (process.platform === 'win32') return { release() {} }
  const script = 'read _ || kill -s "$1" "$2" 2>/dev/null'
  const watcher = spawn('/bin/sh', ['-c', script, 'watch', signal, String(pid)], {
    cwd: '/',
    env: {},
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
