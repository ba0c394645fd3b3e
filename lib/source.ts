import { SseError, show } from './errors.ts'

/** A source of items that `stream` can send. */
export type Source<T> = Iterable<T> | AsyncIterable<T>

/** The steps of reading a source at the pace of its consumer. */
export interface SourceReader<T> {
  /** The next item; rejects with the source's own error. */
  next(): Promise<IteratorResult<T, unknown>>
  /** Stops the source: a generator is `return()`ed, a Readable destroyed. Errors of that go to `onError`. */
  stop(onError: (error: unknown) => void): void
}

/**
 * Reads an iterable, an async iterable or a Readable.
 *
 * @throws {SseError} `SSE_INVALID_EVENT` when `source` is none of them (a string is one event, not a source).
 */
export function readSource<T>(source: Source<T>): SourceReader<T> {
  if (typeof source === 'object' && source !== null) {
    const isReadable = isDestroyable(source)
    if (Symbol.asyncIterator in source) {
      const iterator = source[Symbol.asyncIterator]()
      return {
        next: () => iterator.next(),
        stop: (onError) => {
          // The iterator of a Readable that waits for data returns only after the data: destroying it does not wait.
          if (isReadable) source.destroy()
          else stopIterator(iterator, onError)
        },
      }
    }
    if (Symbol.iterator in source) {
      const iterator = source[Symbol.iterator]()
      return {
        next: async () => {
          const { done, value } = iterator.next()
          return done ? { done, value } : { done: false, value: await value }
        },
        stop: (onError) => stopIterator(iterator, onError),
      }
    }
  }
  throw new SseError('SSE_INVALID_EVENT', `source must be an iterable, an async iterable or a Readable, got ${show(source)}`)
}

function stopIterator(iterator: Iterator<unknown> | AsyncIterator<unknown>, onError: (error: unknown) => void): void {
  try {
    Promise.resolve(iterator.return?.()).catch(onError)
  } catch (error) {
    onError(error)
  }
}

function isDestroyable<T>(source: Source<T>): source is Source<T> & { destroy(): void } {
  return 'destroy' in source && typeof source.destroy === 'function' && 'pipe' in source
}
