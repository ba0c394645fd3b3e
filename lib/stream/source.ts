import type { Readable } from 'node:stream'
import { SseError, describeValue } from '../basics/errors.ts'

/** The part of a web `ReadableStream` that is used. The types of Node and of the DOM both match it. */
export interface WebStream<T> {
  readonly locked: boolean
  getReader(): WebStreamReader<T>
}

interface WebStreamReader<T> {
  read(): Promise<{ readonly done: boolean; readonly value?: T | undefined }>
  cancel(reason?: unknown): Promise<void>
  releaseLock(): void
}

/** A source of items for `stream`. A Node Readable is an async iterable. */
export type Source<T> = Iterable<T> | AsyncIterable<T> | WebStream<T>

/** Reads a source at the pace of the stream that sends its items. */
export interface SourceReader<T> {
  /** Resolves with the next item, and rejects with the source's own error. */
  next(): Promise<IteratorResult<T, unknown>>
  /**
   * Stops the source, even while it waits for an item: a generator is `return()`ed, a Readable destroyed, a web stream cancelled. Errors
   * while stopping go to `onError`.
   */
  stop(onError: (error: unknown) => void): void
}

/**
 * Reads an iterable, an async iterable, a Readable or a web stream.
 *
 * @throws {SseError} `SSE_INVALID_EVENT` if `source` is none of them (a string is one event, not a source), or a web stream that is
 *   locked to another reader.
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
  const instead = bodyOf(source) === undefined ? '' : '; pass the body of a Response: response.body.pipeThrough(new TextDecoderStream())'
  throw new SseError(
    'SSE_INVALID_EVENT',
    `stream: source must be an iterable, an async iterable, a Readable or a web ReadableStream, got ${describeValue(source)}${instead}`,
  )
}

/**
 * Sends every item of a source, one after the other. If sending ends first, it stops the source.
 *
 * @param send sends an item, and returns `false` if no more can be sent.
 * @param onClosed calls a function when the stream closes, and returns a function that cancels the call.
 * @returns `true` at the end of the source, `false` if the stream closed first.
 * @throws the error of the source or of `send`. An error after the stream closed goes to `onError`.
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
    // A callback, because the source may wait for an item that never comes.
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

/** Whether an error reports an abort. A source that uses the stream's signal fails with such an error when the client leaves. */
export function isAbortError(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'name' in error && error.name === 'AbortError'
}

function readIterator<T>(iterator: Iterator<T>): SourceReader<T> {
  let isStopped = false
  let isRunning = false
  /** Stops the iterator after the current step. Set if that step closed the stream: a generator cannot be stopped while it runs. */
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
        // The iterator yielded a promise that rejected, so it is suspended and must be stopped. Errors while stopping are ignored in favor
        // of this one.
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

/** Stops a Readable by destroying it, because the `return()` of its iterator waits for data. */
function readReadable<T>(source: IterableReadable<T>): SourceReader<T> {
  const iterator = source[Symbol.asyncIterator]()
  let isStopped = false
  return {
    next: async () => {
      try {
        return await iterator.next()
      } catch (error) {
        // It was destroyed on purpose, so this error is expected. A failure to destroy it is emitted as 'error'.
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

/** Stops a web stream through its reader, because the `return()` of its iterator waits for the read in progress. */
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

/** The body of a value that looks like a Response of `fetch`. */
function bodyOf(value: unknown): unknown {
  return typeof value === 'object' && value !== null && 'body' in value && 'headers' in value ? value.body : undefined
}

function isReadable<T>(source: Iterable<T> | AsyncIterable<T>): source is IterableReadable<T> {
  return Symbol.asyncIterator in source && 'pipe' in source && 'destroy' in source && typeof source.destroy === 'function'
}
