/** An item of a {@link SwapList}. It carries its own index, so that the list can remove it without a search. */
export interface Indexed {
  /** Index in the list, or -1 while the item is in no list. Only the list writes it. */
  index: number
}

/**
 * An unordered list from which any item can be removed in constant time. The last item takes the place of the removed one.
 *
 * Iterate from the last index down to 0. Removing an item during the iteration then only moves items that were already
 * visited, so that none is skipped. Items added during the iteration are not visited.
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

  /** Removes an item. Does nothing if the item is in no list. */
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
