/** What a {@link SwapList} holds: it keeps its own index up to date, so that removing it needs no search. */
export interface Slotted {
  /** The index in the list, -1 while it is in none. The list alone writes it. */
  slot: number
}

/**
 * A list without an order from which any item is removed in constant time, by moving the last one into its place.
 *
 * Walk it from the last index down: an item that is removed meanwhile then only moves items that were visited
 * already, and none is missed. Items added meanwhile are not visited.
 */
export class SwapList<T extends Slotted> {
  readonly items: T[] = []

  get size(): number {
    return this.items.length
  }

  add(item: T): void {
    item.slot = this.items.length
    this.items.push(item)
  }

  /** Takes an item out; one that is not in the list is left alone. */
  remove(item: T): void {
    const slot = item.slot
    if (slot < 0) return
    item.slot = -1
    const last = this.items.pop()
    if (last === undefined || last === item) return
    this.items[slot] = last
    last.slot = slot
  }
}
