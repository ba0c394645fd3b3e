/** Number of removed items from which the array is compacted. Smaller arrays are not worth a copy. */
const COMPACT_FROM = 1_024

/** A first-in, first-out queue whose operations take constant time (amortised). `Array.shift` moves all items of a long array. */
export class Fifo<T> {
  #items: T[] = []
  #head = 0

  get size(): number {
    return this.#items.length - this.#head
  }

  /** The oldest item, which stays in the queue. */
  get first(): T | undefined {
    return this.#items[this.#head]
  }

  push(item: T): void {
    this.#items.push(item)
  }

  /** Removes the oldest item and returns it, or returns `undefined` if the queue is empty. */
  shift(): T | undefined {
    if (this.#head === this.#items.length) {
      if (this.#head > 0) this.#items = []
      this.#head = 0
      return undefined
    }
    const item = this.#items[this.#head++]
    // Compacting releases the removed items. Waiting until they are half of the array keeps the cost per item constant.
    if (this.#head >= COMPACT_FROM && this.#head * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
    return item
  }
}
