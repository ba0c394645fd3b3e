/** What a {@link SwapList} holds: it keeps its own index up to date, so that removing it needs no search. */
export interface Indexed {
  /** The index in the list, -1 while it is in none. The list alone writes it. */
  index: number
}

/**
 * A list without an order from which any item is removed in constant time, by moving the last one into its place.
 *
 * Walk it from the last index down: an item that is removed meanwhile then only moves items that were visited
 * already, and none is missed. Items added meanwhile are not visited.
 */
export class SwapList<T extends Indexed> {
  readonly items: T[] = []

  get size(): number {
    return this.items.length
  }

  add(item: T): void {
    item.index = this.items.length
    this.items.push(item)
  }

  /** Takes an item out; one that is not in the list is left alone. */
  remove(item: T): void {
    const index = item.index
    if (index < 0) return
    item.index = -1
    const last = this.items.pop()
    if (last === undefined || last === item) return
    this.items[index] = last
    last.index = index
  }
}
