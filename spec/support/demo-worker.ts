import { EventEmitter, once } from 'node:events'
import { createWorker, type WorkerOptions } from '../../demo/worker.ts'

/** Runs the worker of the demo in a process of its own. It pauses after the step that its parent names, until a later one. */
const [, , options = '{}', first] = process.argv
const resting = new EventEmitter()
let lastStep = Number(first ?? Infinity)

const { stop } = createWorker({
  ...(JSON.parse(options) as WorkerOptions),
  async rest(step) {
    if (step >= lastStep) await once(resting, 'over')
  },
})
process.on('message', (step) => {
  lastStep = Number(step)
  resting.emit('over')
})
// The parent process has ended.
process.on('disconnect', () => process.exit())
process.once('SIGTERM', () => {
  void stop().then(() => process.disconnect())
})
console.log('works')
