import { expect, test } from 'vitest'
import { between, step } from './kinds.ts'
import { stage, until } from './stage.ts'

const it = stage()

const effectsOf = async (name: string) => {
  const { rows } = await it.superuser.query(
    `select actor_id from app.audit_log where table_name = 'projects' and new_row ->> 'name' = $1`,
    [name],
  )
  return rows.map(({ actor_id }) => actor_id)
}

// A lease is ten seconds at least, so both ways of losing a worker are waited for together.
test('the jobs of a worker that was killed, and of one that was stopped beyond its lease, run again, and each has its effect once', {
  timeout: 120_000,
}, async () => {
  const { enqueue } = await it.work([])
  const loseWith = async (signal: NodeJS.Signals, name: string) => {
    const worker = it.spawn('worker-process.ts')
    await worker.next('ready')
    const [id = ''] = await enqueue(step, [{ tenant_id: it.acme, name }])
    await worker.next('between')
    worker.kill(signal)
    return { worker, id }
  }
  // The queue comes to be with the first worker
  const zombie = await loseWith('SIGSTOP', 'zombie’s')
  const killed = await loseWith('SIGKILL', 'killed')

  let finishZombies = () => {}
  let taken = false
  between.steps = ({ name }) =>
    name === 'killed'
      ? Promise.resolve()
      : new Promise((resolve) => {
          taken = true
          finishZombies = resolve
        })
  await it.work([step])
  await until(async () => (await it.job(killed.id)).state === 'completed', 80_000)
  await until(async () => taken, 80_000)

  // It goes on while another worker holds its job
  zombie.worker.kill('SIGCONT')
  zombie.worker.send('go on')
  await until(async () => zombie.worker.output().includes('a job was taken over'))
  expect(await it.job(zombie.id)).toMatchObject({ state: 'active', retry_count: 1 })
  finishZombies()
  await until(async () => (await it.job(zombie.id)).state === 'completed')

  expect(await it.job(killed.id)).toMatchObject({ retry_count: 1 })
  expect(await effectsOf('killed')).toEqual([killed.id])
  expect(await effectsOf('zombie’s')).toEqual([zombie.id])
})
