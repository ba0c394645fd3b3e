import { describeValue } from './errors.ts'

/** The origin of a reported error. */
export interface ErrorContext {
  /** The callback or part that failed, for instance `'filter'` or `'source'`. */
  readonly where: string
}

/** Receives errors that have no caller to which they could be thrown. */
export type OnError = (error: unknown, context: ErrorContext) => void

/** The default `onError`. It reports through `process.emitWarning`, and never throws, whatever value it receives. */
export function warn(error: unknown, { where }: ErrorContext): void {
  const { stack } = error instanceof Error ? error : { stack: undefined }
  const text = typeof stack === 'string' ? stack : typeof error === 'string' ? error : describeValue(error)
  process.emitWarning(`${where}: ${text}`, { type: 'ExpressSseHubWarning' })
}

/** Wraps an `onError` so that it never throws or rejects. An error in the hook itself becomes a warning. */
export function safeOnError(onError: OnError): OnError {
  return (error, context) => {
    const failed = (fault: unknown): void => warn(fault, { where: 'onError' })
    try {
      const answer: unknown = onError(error, context)
      if (answer instanceof Promise) answer.then(undefined, failed)
    } catch (fault) {
      failed(fault)
    }
  }
}
