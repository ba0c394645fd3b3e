import { Readable } from 'node:stream'
import { ReadableStream, TextDecoderStream } from 'node:stream/web'
import { type EventInput, Hub, type HubEvent } from 'express-sse-hub'
import { serve } from './servers.ts'
import { silentBackplane } from './silent-backplane.ts'

/** Items of a source. The source awaits a promise, and fails if it rejects. */
export type Items = readonly (string | Promise<string>)[]

export interface TestSource {
  readonly source: AsyncIterable<unknown> | Iterable<unknown>
  readonly toEvent?: (item: never) => EventInput
  /** Things that have happened to the source, in order. */
  readonly happened: () => readonly unknown[]
}

/** A kind of source, and the things that happen to it in each situation. */
export interface SourceKind {
  readonly make: (items: Items) => TestSource | Promise<TestSource>
  /** Makes a failing source. Without it, `make` with a rejecting promise does. */
  readonly makeFailing?: () => TestSource
  /** The client leaves while an item is being sent. */
  readonly leftBetween: readonly unknown[]
  /** The client leaves while an item is pending. */
  readonly leftWaiting: readonly unknown[]
  /** The client leaves while an item is pending, and the item arrives or fails afterwards. */
  readonly arrivedLate: readonly unknown[]
  /** Number of reports of that late failure: 0 if the source has ended by then. */
  readonly reports: 0 | 1
  readonly failed: readonly unknown[]
  readonly error: RegExp
  readonly ended: readonly unknown[]
}

const BROKEN = /^source broke$/

/** An array iterator has no `return()`. It is just not read further. */
const arrayIterator: SourceKind = {
  make: (items) => {
    const iterator = items.values()
    let left = items.length
    const next = iterator.next.bind(iterator)
    iterator.next = () => {
      const result = next()
      if (!result.done) left--
      return result
    }
    return { source: iterator, happened: () => [`${left} left`] }
  },
  leftBetween: ['2 left'],
  leftWaiting: ['1 left'],
  arrivedLate: ['1 left'],
  reports: 1,
  failed: ['1 left'],
  error: BROKEN,
  ended: ['0 left'],
}

const syncGenerator: SourceKind = {
  make: (items) => {
    const log: string[] = []
    const generator = (function* () {
      try {
        yield* items
      } finally {
        log.push('cleaned up')
      }
    })()
    return { source: watchReturn(generator, log), happened: () => log }
  },
  leftBetween: ['return() called', 'cleaned up'],
  leftWaiting: ['return() called', 'cleaned up'],
  arrivedLate: ['return() called', 'cleaned up'],
  reports: 1,
  // The generator is stopped because the promise failed, and not the generator itself.
  failed: ['return() called', 'cleaned up'],
  error: BROKEN,
  ended: ['cleaned up'],
}

const asyncGenerator: SourceKind = {
  make: (items) => {
    const log: string[] = []
    const generator = (async function* () {
      try {
        for (const item of items) yield await item
      } finally {
        log.push('cleaned up')
      }
    })()
    return { source: watchReturn(generator, log), happened: () => log }
  },
  leftBetween: ['return() called', 'cleaned up'],
  // The generator cleans up once the pending item arrives, which never happens.
  leftWaiting: ['return() called'],
  arrivedLate: ['return() called', 'cleaned up'],
  reports: 1,
  failed: ['cleaned up'],
  error: BROKEN,
  ended: ['cleaned up'],
}

const asyncIterator: SourceKind = {
  make: (items) => {
    const log: string[] = []
    const rest = items.values()
    const iterator = {
      [Symbol.asyncIterator]: () => iterator,
      next: async (): Promise<IteratorResult<string>> => {
        const { done, value } = rest.next()
        return done ? { done, value: undefined } : { done: false, value: await value }
      },
      return: async (): Promise<IteratorResult<string>> => ({ done: true, value: undefined }),
    }
    return { source: watchReturn(iterator, log), happened: () => log }
  },
  leftBetween: ['return() called'],
  leftWaiting: ['return() called'],
  arrivedLate: ['return() called'],
  reports: 1,
  failed: [],
  error: BROKEN,
  ended: [],
}

const readable: SourceKind = {
  make: (items) => {
    const log: string[] = []
    const rest = items.values()
    let pending: Promise<unknown> = Promise.resolve()
    const source = new Readable({
      highWaterMark: 1,
      read() {
        const { done, value } = rest.next()
        pending = Promise.resolve(done ? null : value).then((item) => this.push(item))
        pending.catch((error: Error) => this.destroy(error))
      },
      // The source closes when the pending item has arrived or failed.
      destroy(error, closed) {
        log.push('destroyed')
        pending.then(() => closed(error), closed)
      },
    }).setEncoding('utf8')
    source.on('end', () => log.push('ended'))
    return { source, happened: () => log }
  },
  leftBetween: ['destroyed'],
  leftWaiting: ['destroyed'],
  arrivedLate: ['destroyed'],
  reports: 1,
  failed: ['destroyed'],
  error: BROKEN,
  ended: ['ended', 'destroyed'],
}

const webStream: SourceKind = {
  make: (items) => {
    const log: string[] = []
    const rest = items.values()
    let pending: Promise<unknown> = Promise.resolve()
    const source = new ReadableStream<string>(
      {
        pull: (controller) => {
          const { done, value } = rest.next()
          pending = Promise.resolve(value).then((item) => {
            if (log.length > 0) return
            if (done) controller.close()
            else controller.enqueue(item as string)
          })
          return pending as Promise<void>
        },
        // The source is cancelled when the pending item has arrived or failed.
        cancel: () => {
          log.push('cancel() called')
          return pending as Promise<void>
        },
      },
      { highWaterMark: 0 },
    )
    return { source, happened: () => [...log, source.locked ? 'locked' : 'unlocked'] }
  },
  leftBetween: ['cancel() called', 'locked'],
  leftWaiting: ['cancel() called', 'unlocked'],
  arrivedLate: ['cancel() called', 'unlocked'],
  reports: 1,
  failed: ['locked'],
  error: BROKEN,
  ended: ['unlocked'],
}

const responseBody: SourceKind = {
  make: async (items) => {
    const log: string[] = []
    const { url } = await serve((_req, res) => {
      res.on('close', () => log.push(res.writableFinished ? 'answered' : 'connection closed'))
      const answer = async (): Promise<void> => {
        for (const item of items) res.write(await item)
        res.end()
      }
      res.flushHeaders()
      answer().catch(() => res.destroy())
    })
    const response = await fetch(url)
    const source = (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())
    return { source, happened: () => log }
  },
  leftBetween: ['connection closed'],
  leftWaiting: ['connection closed'],
  arrivedLate: ['connection closed'],
  // The connection is closed by then.
  reports: 0,
  failed: ['connection closed'],
  error: /^terminated$/,
  ended: ['answered'],
}

const hubEvents: SourceKind = {
  make: (items) => {
    const hub = new Hub({ replay: { maxBytes: 67_108_864 } })
    const publish = async (): Promise<void> => {
      for (const item of items) await hub.publish('a', 'token', await item)
      await hub.close()
    }
    const source = eventsOf(hub)
    publish().catch(() => {})
    return source
  },
  makeFailing: () => eventsOf(new Hub({ backplane: silentBackplane(), onError() {} })),
  leftBetween: ['return() called', '0 consumers'],
  leftWaiting: ['return() called', '0 consumers'],
  arrivedLate: ['return() called', '0 consumers'],
  // The failing promise belongs to the publisher, not to the iterator.
  reports: 0,
  failed: ['0 consumers'],
  error: /backplane/,
  ended: ['0 consumers'],
}

/** Every kind of source that `stream` accepts. */
export const SOURCE_KINDS: readonly (readonly [name: string, kind: SourceKind])[] = [
  ['an array iterator', arrayIterator],
  ['a generator', syncGenerator],
  ['an async generator', asyncGenerator],
  ['an async iterator', asyncIterator],
  ['a Readable', readable],
  ['a web ReadableStream', webStream],
  ['the body of a Response', responseBody],
  ['hub.events()', hubEvents],
]

function eventsOf(hub: Hub): TestSource {
  const log: string[] = []
  const source = watchReturn(hub.events('a'), log)
  return { source, toEvent: ({ data }: HubEvent) => ({ data }), happened: () => [...log, `${hub.channel('a').subscriberCount} consumers`] }
}

/** Logs the calls of an iterator's `return()`. */
function watchReturn<T extends { return?(...args: never[]): unknown }>(iterator: T, log: string[]): T {
  const original = iterator.return?.bind(iterator)
  iterator.return = (...args) => {
    log.push('return() called')
    return original?.(...args)
  }
  return iterator
}
