/** So many are remembered: of one that is forgotten it is found out again. */
const MAX_EPOCHS = 1_000

/** The lives of the log that are not the present one: what comes of them comes late. */
export class PastEpochs {
  readonly #epochs = new Set<string>()

  has(epoch: string): boolean {
    return this.#epochs.has(epoch)
  }

  add(epoch: string): void {
    if (this.#epochs.size >= MAX_EPOCHS) this.#epochs.clear()
    this.#epochs.add(epoch)
  }

  delete(epoch: string): void {
    this.#epochs.delete(epoch)
  }
}
