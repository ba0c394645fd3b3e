import { describeValue } from './errors.ts'

/** Where a reported error came from. */
export interface ErrorContext {
  /** The callback or the part that failed, for instance `'filter'` or `'source'`. */
  readonly where: string
}

/** Is told of faults that have no caller to throw to. */
export type OnError = (error: unknown, context: ErrorContext) => void

/** Reports through `process.emitWarning`: what happens where no `onError` was given. Whatever was thrown, it does not throw. */
export function warn(error: unknown, { where }: ErrorContext): void {
  const { stack } = error instanceof Error ? error : { stack: undefined }
  const text = typeof stack === 'string' ? stack : typeof error === 'string' ? error : describeValue(error)
  process.emitWarning(`${where}: ${text}`, { type: 'ExpressSseHubWarning' })
}

/** An `onError` that never throws: a fault of the hook itself becomes a warning. */
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
