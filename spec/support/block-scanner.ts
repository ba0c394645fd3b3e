const BLANK_LINE = Buffer.from('\n\n')
const DATA_LINE = Buffer.from('\ndata:')
/** Stand-ins for text that was already scanned: the end of a line, and the start of a long line. */
const LINE_FEED = Buffer.from('\n')
const LINE_PART = Buffer.from('…')
/** Number of bytes of a block that a report shows. */
const SHOWN = 200

/** Finds blank lines without a `data:` line before them in an event stream. Many parsers dispatch an event for these. */
export class BlockScanner {
  readonly #onViolation: (block: string) => void
  /** Unscanned bytes, starting with the line feed before their first line. */
  #rest = LINE_FEED
  #hasData = false
  #shown = ''

  constructor(onViolation: (block: string) => void) {
    this.#onViolation = onViolation
  }

  feed(bytes: Buffer): void {
    const all = Buffer.concat([this.#rest, bytes])
    let from = 0
    for (let end = all.indexOf(BLANK_LINE); end !== -1; end = all.indexOf(BLANK_LINE, from)) {
      const block = all.subarray(from, end + 1)
      if (!this.#hasData && block.indexOf(DATA_LINE) === -1) this.#onViolation(this.#shown + shownOf(block))
      this.#hasData = false
      this.#shown = ''
      from = end + 1
    }
    // Only the last line of an incomplete block is kept.
    const open = all.subarray(from)
    this.#hasData ||= open.indexOf(DATA_LINE) !== -1
    const line = open.lastIndexOf(LINE_FEED)
    const last = line === -1 ? open : open.subarray(line)
    if (this.#shown.length < SHOWN) this.#shown += shownOf(open.subarray(0, Math.max(0, line)))
    this.#rest = last.length < DATA_LINE.length ? Buffer.from(last) : LINE_PART
  }
}

/** Returns the text of a block without the line feed before its first line. */
function shownOf(block: Buffer): string {
  const text = block.toString('utf8', 0, SHOWN)
  return text.startsWith('\n') ? text.slice(1) : text
}
