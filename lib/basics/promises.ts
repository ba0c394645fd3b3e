/** A promise together with the functions that settle it. */
export interface Deferred<T> {
  readonly promise: Promise<T>
  readonly resolve: (value: T) => void
  readonly reject: (error: unknown) => void
}

/** Makes a promise that is settled from outside. Node 22 has it as `Promise.withResolvers`. */
export function deferred<T>(): Deferred<T> {
  let resolve: Deferred<T>['resolve'] = () => {}
  let reject: Deferred<T>['reject'] = () => {}
  const promise = new Promise<T>((...settle) => ([resolve, reject] = settle))
  return { promise, resolve, reject }
}

/** Whether a value has a `then` method, as every promise does, whichever library made it. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}

/** Handles the rejection of a promise that the caller discards, because an unhandled rejection would end the process. */
export function ignoreRejection(promise: unknown): void {
  if (isThenable(promise)) Promise.resolve(promise).catch(() => {})
}

/** Receives a rejection that no code handled. */
export type Report = (error: unknown) => void

type Executor<T> = ConstructorParameters<typeof Promise<T>>[0]

/**
 * A promise whose rejection never ends the process. A rejection is reported if no code observes the promise with `await`,
 * `then` or `catch` before the next turn of the event loop. An observed promise rejects as usual and is not reported.
 *
 * A promise derived without a rejection handler (`then(f)`, `finally(f)`) is a `ReportedPromise` too. The promise of an
 * `async` function that awaits this one is an ordinary promise, whose rejection the caller has to handle.
 */
class ReportedPromise<T> extends Promise<T> {
  readonly #report: Report | undefined
  #isObserved = false

  /** @param report omitted by the static methods of `Promise`, so that the promises they make behave as ordinary ones. */
  constructor(source: Promise<T> | Executor<T>, report?: Report) {
    super(typeof source === 'function' ? source : (resolve, reject) => void source.then(resolve, reject))
    this.#report = report
    if (report === undefined) return
    super.then(undefined, (error: unknown) => {
      if (!this.#isObserved) setImmediate(() => this.#isObserved || report(error))
    })
  }

  /** Lets native methods derive ordinary promises, which `then` and `finally` below wrap again. */
  static override get [Symbol.species](): PromiseConstructor {
    return Promise
  }

  // oxlint-disable-next-line unicorn/no-thenable -- this class is a promise
  override then<A = T, B = never>(
    onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#isObserved = true
    const derived = super.then(onFulfilled, onRejected)
    return typeof onRejected === 'function' || this.#report === undefined ? derived : new ReportedPromise(derived, this.#report)
  }

  override finally(onFinally?: (() => void) | null): Promise<T> {
    return new ReportedPromise(super.finally(onFinally), this.#report)
  }
}

/**
 * Calls a function that may return a value, return a promise, or throw. A rejection that no code observes is reported. A
 * plain value becomes an ordinary promise, because it cannot reject and an ordinary promise is cheaper.
 */
export function reported<T>(call: () => T | Promise<T>, report: Report): Promise<T> {
  try {
    const result = call()
    return isThenable(result) ? new ReportedPromise(result, onceEach(report)) : Promise.resolve(result)
  } catch (error) {
    return new ReportedPromise(Promise.reject<T>(error), onceEach(report))
  }
}

/** Reports each error once, even if several promises derived from one reject with it. */
function onceEach(report: Report): Report {
  let seen: Set<unknown> | undefined
  return (error) => {
    if (seen?.has(error)) return
    seen ??= new Set()
    seen.add(error)
    report(error)
  }
}
