const COMPACT_FROM = 1_024

/** A queue that takes and gives in constant time. */
export class Fifo<T> {
  #items: T[] = []
  #head = 0

  get size(): number {
    return this.#items.length - this.#head
  }

  /** The item that is there for longest; it stays. */
  get first(): T | undefined {
    return this.#items[this.#head]
  }

  push(item: T): void {
    this.#items.push(item)
  }

  /** Takes out the item that is there for longest; `undefined` where there is none. */
  shift(): T | undefined {
    if (this.#head === this.#items.length) {
      if (this.#head > 0) this.#items = []
      this.#head = 0
      return undefined
    }
    const item = this.#items[this.#head++]
    // What was given is let go of, at a cost that stays constant per item.
    if (this.#head >= COMPACT_FROM && this.#head * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
    return item
  }
}
