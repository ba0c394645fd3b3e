import { DeliveryCheck, type Findings, type Received, type ReceivedEvent } from '../support/failures/delivery-check.ts'
import { dataOf, seqOf } from '../support/failures/load.ts'

const CHANNELS = ['a', 'b']
const [FIRST, SECOND] = ['first00000', 'second0000']

/** Events 1 to 8 of channel a at 100 to 800 and of b at 150 to 850, and in a second epoch 9 to 12 at 900 to 1,200, of both. */
const ALL: readonly ReceivedEvent[] = Array.from({ length: 12 }, (_, n) => n + 1).flatMap((n) => [
  { kind: 'event', channel: 'a', epoch: n < 9 ? FIRST : SECOND, position: n * 100, seq: n },
  { kind: 'event', channel: 'b', epoch: n < 9 ? FIRST : SECOND, position: n * 100 + 50, seq: 100 + n },
])
const OF_FIRST = ALL.filter(({ epoch }) => epoch === FIRST)
const OF_SECOND = ALL.filter(({ epoch }) => epoch === SECOND)
const ACCEPTED = ALL.map(({ seq = 0, epoch, position, channel }) => ({ seq, id: `${epoch}-${position}/${channel}` }))
const OPEN: Received = { kind: 'place', epoch: FIRST, position: 50 }
const NOTHING_WRONG = { lost: 0, doubled: 0, swapped: 0, forged: 0, backwards: 0, revived: 0 }

function findings(received: readonly Received[], channels: readonly string[] = CHANNELS, accepted = ACCEPTED): Findings {
  const check = new DeliveryCheck(accepted, [received])
  check.check('a client', channels, received)
  const { lost, doubled, swapped, forged, backwards, revived } = check.findings
  expect(check.examples.length > 0).toBe(lost + doubled + swapped + forged + backwards + revived > 0)
  return check.findings
}

function reset(epoch: string, position: number, channels = CHANNELS, at = position): Received {
  return { kind: 'reset', channels, reason: 'expired', epoch, position, at }
}

/** The list without the items at some indices. */
function without(events: readonly ReceivedEvent[], ...places: readonly number[]): ReceivedEvent[] {
  return events.filter((_, n) => !places.includes(n))
}

/** Only the first epoch: there are no other events. */
function ofFirst(received: readonly Received[], channels = CHANNELS): Findings {
  return findings([OPEN, ...received], channels, ACCEPTED.slice(0, OF_FIRST.length))
}

describe('the check of what clients received', () => {
  it('finds nothing if every event arrived once and in order', () => {
    expect(ofFirst(OF_FIRST)).toEqual({ ...NOTHING_WRONG, covered: 0, repeated: 0, delivered: 16, resets: {} })
  })

  it.each([
    ['in the middle', 6],
    ['at the beginning', 0],
    ['at the end', 15],
  ])('finds an event that was lost %s', (_, place) => {
    expect(ofFirst(without(OF_FIRST, place))).toMatchObject({ ...NOTHING_WRONG, lost: 1, delivered: 15 })
  })

  it('counts every event as lost for a client that received nothing', () => {
    expect(findings([], ['a'])).toMatchObject({ ...NOTHING_WRONG, lost: 12 })
  })

  it('finds a duplicate, immediate or later', () => {
    const [one, two, three] = OF_FIRST as [ReceivedEvent, ReceivedEvent, ReceivedEvent]
    expect(ofFirst([one, one, two, three, ...OF_FIRST.slice(3)])).toMatchObject({ ...NOTHING_WRONG, doubled: 1 })
    expect(ofFirst([...OF_FIRST, two])).toMatchObject({ ...NOTHING_WRONG, doubled: 1, backwards: 1 })
  })

  it('finds a duplicate with another id of the same epoch', () => {
    const [one] = OF_FIRST as [ReceivedEvent]
    expect(ofFirst([{ ...one, position: 99 }, ...OF_FIRST])).toMatchObject({ ...NOTHING_WRONG, doubled: 1 })
  })

  it('finds two events of a channel in the wrong order', () => {
    const [a1, b1, a2, ...rest] = OF_FIRST as [ReceivedEvent, ReceivedEvent, ReceivedEvent]
    expect(ofFirst([a2, b1, a1, ...rest])).toMatchObject({ ...NOTHING_WRONG, swapped: 1, backwards: 2 })
  })

  it('finds ids that went backwards from one channel to another', () => {
    const [a1, b1, ...rest] = OF_FIRST as [ReceivedEvent, ReceivedEvent]
    expect(ofFirst([b1, a1, ...rest])).toMatchObject({ ...NOTHING_WRONG, backwards: 1 })
  })

  it('finds an event that nobody published, one with the data of another, and one of another channel', () => {
    const [one] = OF_FIRST as [ReceivedEvent]
    expect(ofFirst([{ ...one, position: 99, seq: 77 }, ...OF_FIRST])).toMatchObject({ ...NOTHING_WRONG, forged: 1 })
    expect(ofFirst([{ ...one, seq: 2 }, ...OF_FIRST.slice(1)])).toMatchObject({ ...NOTHING_WRONG, forged: 1, lost: 1 })
    expect(ofFirst([{ ...one, seq: undefined }, ...OF_FIRST.slice(1)])).toMatchObject({ ...NOTHING_WRONG, forged: 1, lost: 1 })
    expect(ofFirst(OF_FIRST, ['a'])).toMatchObject({ ...NOTHING_WRONG, forged: 8 })
  })

  it('expects no event before the first id that the client received', () => {
    const begin: Received = { kind: 'place', epoch: FIRST, position: 320 }
    const accepted = ACCEPTED.slice(0, OF_FIRST.length)
    expect(findings([begin, ...OF_FIRST.slice(5)], CHANNELS, accepted)).toMatchObject(NOTHING_WRONG)
    expect(findings([begin, ...OF_FIRST.slice(6)], CHANNELS, accepted)).toMatchObject({ ...NOTHING_WRONG, lost: 1 })
    expect(findings(OF_FIRST.slice(5), CHANNELS, accepted)).toMatchObject(NOTHING_WRONG)
    expect(findings(without(OF_FIRST.slice(5), 1), CHANNELS, accepted)).toMatchObject({ ...NOTHING_WRONG, lost: 1 })
  })

  describe('after a reset', () => {
    it('counts the events that the reset covers as covered, not as lost', () => {
      const received = [...OF_FIRST.slice(0, 4), reset(FIRST, 500), ...OF_FIRST.slice(9)]
      expect(ofFirst(received)).toMatchObject({ ...NOTHING_WRONG, covered: 5, resets: { expired: 1 } })
    })

    it('finds events that were lost before or after it, and events that arrived although it covers them', () => {
      expect(ofFirst([...OF_FIRST.slice(0, 4), reset(FIRST, 500), ...OF_FIRST.slice(11)])).toMatchObject({ ...NOTHING_WRONG, lost: 2 })
      expect(ofFirst([...without(OF_FIRST.slice(0, 4), 1), reset(FIRST, 500), ...OF_FIRST.slice(9)])).toMatchObject({
        ...NOTHING_WRONG,
        lost: 1,
      })
      expect(ofFirst([...OF_FIRST.slice(0, 4), reset(FIRST, 500), ...OF_FIRST.slice(7)])).toMatchObject({ backwards: 1 })
      expect(ofFirst([...OF_FIRST.slice(0, 4), reset(FIRST, 500), ...OF_FIRST.slice(9), ...OF_FIRST.slice(5, 6)])).toMatchObject({
        swapped: 1,
      })
    })

    it('does not let the reset of one channel cover another', () => {
      const received = [...OF_FIRST.slice(0, 4), reset(FIRST, 250, ['a'], 600), ...OF_FIRST.slice(10)]
      expect(ofFirst(received)).toMatchObject({ ...NOTHING_WRONG, covered: 3, lost: 3 })
    })

    it('does not let the reset of some channels cover what was published after it arrived', () => {
      const slack = 2_000
      const late: ReceivedEvent[] = [1, 2, 3].map((n) => ({
        kind: 'event',
        channel: 'a',
        epoch: FIRST,
        position: 10_000 * n,
        seq: 200 + n,
      }))
      const accepted = [...ACCEPTED.slice(0, 16), ...late.map(({ seq = 0, position }) => ({ seq, id: `${FIRST}-${position}/a` }))]
      const received = [OPEN, ...OF_FIRST, reset(FIRST, 850, ['a'], 20_000 - slack - 1), ...late.slice(2)]
      expect(findings(received, CHANNELS, accepted)).toMatchObject({ ...NOTHING_WRONG, covered: 1, lost: 1 })
    })
  })

  describe('after a new epoch began', () => {
    it('counts the events of the previous epoch that the reset covers as covered', () => {
      const received = [OPEN, ...OF_FIRST.slice(0, 5), reset(SECOND, 950), ...OF_SECOND.slice(2)]
      expect(findings(received)).toMatchObject({ ...NOTHING_WRONG, covered: 13, delivered: 11 })
      expect(new DeliveryCheck(ACCEPTED, []).lives).toBe(2)
    })

    it('finds the missing events of both epochs if there was no reset', () => {
      expect(findings([OPEN, ...OF_FIRST.slice(0, 5), ...OF_SECOND.slice(2)])).toMatchObject({ ...NOTHING_WRONG, lost: 13 })
    })

    it('recognises a reset of an epoch without events by its position', () => {
      const received = [OPEN, ...OF_FIRST.slice(0, 5), reset('between000', 870), ...OF_SECOND]
      expect(findings(received)).toMatchObject({ ...NOTHING_WRONG, covered: 11 })
      expect(findings([...received.slice(0, 7), ...OF_SECOND.slice(1)])).toMatchObject({ ...NOTHING_WRONG, covered: 11, lost: 1 })
    })

    it('counts an event of both epochs as repeated, because its publisher received only the second id', () => {
      const unheard: ReceivedEvent = { kind: 'event', channel: 'a', epoch: FIRST, position: 860, seq: 9 }
      expect(findings([OPEN, ...OF_FIRST, unheard, reset(SECOND, 880), ...OF_SECOND])).toMatchObject({ ...NOTHING_WRONG, repeated: 1 })
    })

    it('finds a return to a previous epoch', () => {
      const received = [OPEN, ...OF_FIRST, reset(SECOND, 880), reset(FIRST, 850), reset(SECOND, 890), ...OF_SECOND]
      expect(findings(received)).toMatchObject({ ...NOTHING_WRONG, revived: 2 })
    })
  })
})

describe('the data of an event', () => {
  it('has its number, and reveals whether it arrived unchanged', () => {
    for (let seq = 0; seq < 2_000; seq++) expect(seqOf(dataOf(seq))).toBe(seq)
    expect(seqOf(dataOf(7, 32_000))).toBe(7)
    for (const data of [dataOf(7).slice(0, -1), dataOf(7).replace('7', '8'), `${dataOf(7)} `, dataOf(7, 32_000).slice(1), '', 'x']) {
      expect(seqOf(data)).toBeUndefined()
    }
  })
})
