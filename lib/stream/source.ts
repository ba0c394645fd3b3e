import type { Readable } from 'node:stream'
import { SseError, describeValue } from '../basics/errors.ts'

/** The part of a web `ReadableStream` that is used. Node and the DOM both have this type. */
export interface WebStream<T> {
  readonly locked: boolean
  getReader(): WebStreamReader<T>
}

interface WebStreamReader<T> {
  read(): Promise<{ readonly done: boolean; readonly value?: T | undefined }>
  cancel(reason?: unknown): Promise<void>
  releaseLock(): void
}

/** A source of items that `stream` can send. A Node Readable is an async iterable. */
export type Source<T> = Iterable<T> | AsyncIterable<T> | WebStream<T>

/** The steps of reading a source at the pace of its consumer. */
export interface SourceReader<T> {
  /** The next item; rejects with the source's own error. */
  next(): Promise<IteratorResult<T, unknown>>
  /**
   * Stops the source, also while it waits for an item: a generator is `return()`ed, a Readable destroyed, a web stream
   * cancelled. Errors of that go to `onError`.
   */
  stop(onError: (error: unknown) => void): void
}

/**
 * Reads an iterable, an async iterable, a Readable or a web stream.
 *
 * @throws {SseError} `SSE_INVALID_EVENT` when `source` is none of them (a string is one event, not a source), or is a web
 *   stream that somebody else reads.
 */
export function readSource<T>(source: Source<T>): SourceReader<T> {
  if (typeof source === 'object' && source !== null) {
    if (isWebStream(source)) return readWebStream(source)
    if (isReadable(source)) return readReadable(source)
    if (Symbol.asyncIterator in source) {
      const iterator = source[Symbol.asyncIterator]()
      return { next: () => iterator.next(), stop: (onError) => stopIterator(iterator, onError) }
    }
    if (Symbol.iterator in source) return readIterator(source[Symbol.iterator]())
  }
  const instead = bodyOf(source) === undefined ? '' : '; give the body of a Response: response.body.pipeThrough(new TextDecoderStream())'
  throw new SseError(
    'SSE_INVALID_EVENT',
    `stream: source must be an iterable, an async iterable, a Readable or a web ReadableStream, got ${describeValue(source)}${instead}`,
  )
}

/**
 * Sends every item of a source, one after the other, and stops the source when that ends before it.
 *
 * @param send sends an item: `false` when no more can be sent.
 * @param onClosed registers what is to happen when the consumer closes, and gives a function that takes it back.
 * @returns `true` at the end of the source, `false` when the consumer closed before.
 * @throws what the source or `send` throws; what fails after the consumer closed goes to `onError`.
 */
export function readAll<T>(
  reader: SourceReader<T>,
  send: (item: T) => boolean | Promise<boolean>,
  onClosed: (closer: () => void) => () => void,
  onError: (error: unknown) => void,
): Promise<boolean> {
  let isClosed = false
  let isStopped = false
  const stop = (): void => {
    if (!isStopped) reader.stop(onError)
    isStopped = true
  }
  const read = async (): Promise<boolean> => {
    for (;;) {
      const { done, value } = await reader.next()
      if (isClosed) return false
      if (done) return true
      try {
        if (!(await send(value))) {
          stop()
          return false
        }
      } catch (error) {
        stop()
        throw error
      }
    }
  }
  return new Promise((resolve, reject) => {
    // Told by callback: the source may be waiting for an item that never comes.
    const forget = onClosed(() => {
      isClosed = true
      stop()
      resolve(false)
    })
    read().then(
      (reachedEnd) => {
        forget()
        resolve(reachedEnd)
      },
      (error: unknown) => {
        forget()
        if (isClosed) onError(error)
        else reject(error)
      },
    )
  })
}

/** Whether an error says that something was aborted, as the signal of a stream aborts what heeds it. */
export function isAbortError(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'name' in error && error.name === 'AbortError'
}

function readIterator<T>(iterator: Iterator<T>): SourceReader<T> {
  let isStopped = false
  let isRunning = false
  /** Stops it after the step that is running, in which it has closed its own stream. */
  let stopLater: (() => void) | null = null
  const step = (): IteratorResult<T> => {
    isRunning = true
    try {
      return iterator.next()
    } finally {
      isRunning = false
      stopLater?.()
    }
  }
  return {
    next: async () => {
      const { done, value } = step()
      if (done) return { done, value }
      try {
        return { done: false, value: await value }
      } catch (error) {
        // The promise that it yielded failed, so it is still suspended and has to be stopped. A fault of that would hide the error.
        if (!isStopped) stopIterator(iterator, () => {})
        throw error
      }
    },
    stop: (onError) => {
      isStopped = true
      if (isRunning) stopLater = () => stopIterator(iterator, onError)
      else stopIterator(iterator, onError)
    },
  }
}

type IterableReadable<T> = AsyncIterable<T> & Pick<Readable, 'destroy' | 'on'>

/** A Readable is destroyed, because its iterator, while it waits for data, would return only after the data. */
function readReadable<T>(source: IterableReadable<T>): SourceReader<T> {
  const iterator = source[Symbol.asyncIterator]()
  let isStopped = false
  return {
    next: async () => {
      try {
        return await iterator.next()
      } catch (error) {
        // It was destroyed on purpose, so this error is expected. A failure of that arrives as its 'error' event.
        if (isStopped) return { done: true, value: undefined }
        throw error
      }
    },
    stop: (onError) => {
      isStopped = true
      source.on('error', onError)
      try {
        source.destroy()
      } catch (error) {
        onError(error)
      }
    },
  }
}

/** A web stream is cancelled through its reader: `return()` of its iterator would wait behind the read that is under way. */
function readWebStream<T>(source: WebStream<T>): SourceReader<T> {
  if (source.locked) {
    throw new SseError('SSE_INVALID_EVENT', `stream: source must not be locked, and this ReadableStream has a reader already`)
  }
  const reader = source.getReader()
  return {
    next: async () => {
      const { done, value } = await reader.read()
      if (!done) return { done, value: value as T }
      reader.releaseLock()
      return { done, value }
    },
    stop: (onError) => void reader.cancel().catch(onError),
  }
}

function stopIterator(iterator: Iterator<unknown> | AsyncIterator<unknown>, onError: (error: unknown) => void): void {
  try {
    Promise.resolve(iterator.return?.()).catch(onError)
  } catch (error) {
    onError(error)
  }
}

function isWebStream<T>(source: Source<T>): source is WebStream<T> {
  return 'getReader' in source && typeof source.getReader === 'function'
}

/** The body of what looks like a Response of `fetch`. */
function bodyOf(value: unknown): unknown {
  return typeof value === 'object' && value !== null && 'body' in value && 'headers' in value ? value.body : undefined
}

function isReadable<T>(source: Iterable<T> | AsyncIterable<T>): source is IterableReadable<T> {
  return Symbol.asyncIterator in source && 'pipe' in source && 'destroy' in source && typeof source.destroy === 'function'
}
