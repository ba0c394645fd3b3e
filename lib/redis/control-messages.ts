import type { BackplaneHost } from '../backplanes/backplane.ts'
import { describeValue } from '../basics/errors.ts'
import { names } from './key-schema.ts'
import type { OwnerCounts } from './owner-counts.ts'
import type { RedisLink } from './redis-link.ts'
import type { ScriptCalls } from './script-calls.ts'

/** The first line of a text on the pub/sub channel of a process; key-schema.ts describes both kinds. */
const CONTROL = 'control\n'
const REACHED = 'reached '

/**
 * Sends and receives control messages, and the markers of reads.
 *
 * The vital control messages of an epoch are numbered. Each of them carries its number, and each marker of a read carries the newest
 * number. A process compares these numbers with its own, notices that it missed some, and reads those from the control log.
 */
export class ControlMessages {
  readonly #link: RedisLink
  readonly #base: string
  readonly #calls: ScriptCalls
  readonly #ownerCounts: OwnerCounts
  #host: BackplaneHost | undefined
  /** The epoch of the last text, and the number of vital control messages in it that this process received or requested. */
  #known = { epoch: '', count: 0 }

  /** @param link the connection over which control messages to one process are published. */
  constructor(link: RedisLink, base: string, calls: ScriptCalls, ownerCounts: OwnerCounts) {
    this.#link = link
    this.#base = base
    this.#calls = calls
    this.#ownerCounts = ownerCounts
  }

  open(host: BackplaneHost): void {
    this.#host = host
  }

  close(): void {
    this.#host = undefined
  }

  /** See `Backplane.send`. */
  async send(processId: string, text: string): Promise<void> {
    const redis = await this.#link.use()
    await redis.publish(names.processMessages(this.#base, processId), CONTROL + text)
  }

  /** Handles a text from the pub/sub channel of all processes. */
  receiveBroadcast(text: string): void {
    const { epoch, number, rest } = parseNumbered(text)
    // This text is the newest vital control message itself. Only those before it may have been missed.
    if (number > 0) this.#catchUp(epoch, number, number - 1)
    this.#host?.controlMessage(rest)
  }

  /** Handles a text from the pub/sub channel of this process. */
  receive(text: string): void {
    if (text.startsWith(REACHED)) {
      const { epoch, number, rest } = parseNumbered(text.slice(REACHED.length))
      this.#catchUp(epoch, number, number)
      this.#host?.reached(rest)
    } else if (text.startsWith(CONTROL)) {
      this.#host?.controlMessage(text.slice(CONTROL.length))
    } else {
      throw notOfHub(text)
    }
  }

  /** Records that an epoch has `count` vital control messages, and reads the missed ones up to number `last`. */
  #catchUp(epoch: string, count: number, last: number): void {
    const known = this.#known
    this.#known = { epoch, count }
    // Nothing that was sent before the first text concerned this process.
    if (known.epoch === '') return
    const isSameEpoch = epoch === known.epoch
    // Redis lost its data, and the counts with it.
    if (!isSameEpoch) void this.#ownerCounts.assertAll()
    const after = isSameEpoch ? known.count : 0
    if (last > after) void this.#readMissed(epoch, after, last)
  }

  async #readMissed(epoch: string, after: number, last: number): Promise<void> {
    const texts = await this.#calls.missedControlMessages(epoch, after, last).catch(() => null)
    const host = this.#host
    if (host === undefined) return
    if (texts === null) return host.controlMessagesMissed()
    for (const text of texts) {
      try {
        host.controlMessage(text)
      } catch (error) {
        host.onError(error, { where: 'backplane' })
      }
    }
  }
}

/** Parses "<epoch> <number>\n<rest>". */
function parseNumbered(text: string): { readonly epoch: string; readonly number: number; readonly rest: string } {
  const [, epoch, number, rest] = /^([0-9a-z]{10}) (\d+)\n([^]*)$/.exec(text) ?? []
  if (epoch === undefined || number === undefined || rest === undefined) throw notOfHub(text)
  return { epoch, number: Number(number), rest }
}

function notOfHub(text: string): Error {
  return new Error(`RedisBackplane: received a text that is not a control message of a hub: ${describeValue(text)}`)
}
