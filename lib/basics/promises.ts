/** A promise with the functions that settle it. */
export interface Deferred<T> {
  readonly promise: Promise<T>
  readonly resolve: (value: T) => void
  readonly reject: (error: unknown) => void
}

/** Makes a promise that is settled from outside, as `Promise.withResolvers` does (Node 22). */
export function deferred<T>(): Deferred<T> {
  let resolve: Deferred<T>['resolve'] = () => {}
  let reject: Deferred<T>['reject'] = () => {}
  const promise = new Promise<T>((...settle) => ([resolve, reject] = settle))
  return { promise, resolve, reject }
}

/** Whether a value is a promise, of whatever making. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}

/** Keeps a promise that is refused from ending the process when it rejects: nobody else looks at it. */
export function ignoreRejection(promise: unknown): void {
  if (isThenable(promise)) Promise.resolve(promise).catch(() => {})
}

/** Receives a rejection that nobody looked at. */
export type Report = (error: unknown) => void

type Executor<T> = ConstructorParameters<typeof Promise<T>>[0]

/**
 * A promise whose own rejection never ends the process. If nobody has asked for it by the next turn of the event loop, it is
 * reported. If somebody has, by `await`, `then` or `catch`, it rejects for them and is not reported. A promise that others
 * make of it, such as that of an `async` function, is theirs.
 *
 * A chain that handles no rejection (`then(f)`, `finally(f)`) is a promise of the same kind.
 */
export class ReportedPromise<T> extends Promise<T> {
  readonly #report: Report | undefined
  #isObserved = false

  /** @param report left out by the static methods of `Promise`, whose promises are ordinary ones. */
  constructor(source: Promise<T> | Executor<T>, report?: Report) {
    super(typeof source === 'function' ? source : (resolve, reject) => void source.then(resolve, reject))
    this.#report = report
    if (report === undefined) return
    super.then(undefined, (error: unknown) => {
      if (!this.#isObserved) setImmediate(() => this.#isObserved || report(error))
    })
  }

  /** Native methods derive ordinary promises; `then` and `finally` below wrap them again. */
  static override get [Symbol.species](): PromiseConstructor {
    return Promise
  }

  // oxlint-disable-next-line unicorn/no-thenable -- it is a promise
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
 * Runs what may answer at once, throw or take time. An answer at once is an ordinary promise, which costs nothing more; a
 * rejection that nobody looks at is reported.
 */
export function reported<T>(run: () => T | Promise<T>, report: Report): Promise<T> {
  try {
    const answer = run()
    return isThenable(answer) ? new ReportedPromise(answer, onceEach(report)) : Promise.resolve(answer)
  } catch (error) {
    return new ReportedPromise(Promise.reject<T>(error), onceEach(report))
  }
}

/** Reports each error once, however many chains of a promise end with it. */
function onceEach(report: Report): Report {
  let told: Set<unknown> | undefined
  return (error) => {
    if (told?.has(error)) return
    told ??= new Set()
    told.add(error)
    report(error)
  }
}
