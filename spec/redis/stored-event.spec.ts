import { parseHistory, parseStoredEvent } from '../../lib/redis/stored-event.ts'

const EPOCH = 'abcdefghij'

function storedEvent(position: number, prev: number, text = `t${position}`, key = ''): string {
  return `${EPOCH} ${position} ${prev} 1\ncreated\n${key}\n${text}`
}

/** The floor, and the positions of the events. */
function readOf(...raw: Parameters<typeof parseHistory>): [number, ...number[]] {
  const { floor, events } = parseHistory(...raw)
  return [floor, ...events.map(({ position }) => position)]
}

describe('a stored event', () => {
  it('is parsed as it was stored', () => {
    expect(parseStoredEvent(`${EPOCH} 1800000000000001 1800000000000000 0\ncreated\n"k\\n\\"é"\n{"a":\n1}\n`)).toEqual({
      epoch: EPOCH,
      event: {
        position: 1_800_000_000_000_001,
        prev: 1_800_000_000_000_000,
        event: 'created',
        text: '{"a":\n1}\n',
        isString: false,
        key: 'k\n"é',
      },
    })
    expect(parseStoredEvent(storedEvent(2, 1, '')).event).toEqual({
      position: 2,
      prev: 1,
      event: 'created',
      text: '',
      isString: true,
      key: undefined,
    })
  })

  it.each([
    '',
    'x',
    '\n\n\n',
    `${EPOCH} 1 0 1\ncreated\n`,
    `${EPOCH} 1 0 2\ne\n\nt`,
    `${EPOCH} -1 0 1\ne\n\nt`,
    `short 1 0 1\ne\n\nt`,
    `${EPOCH} 1 0 1\ne\nno json\nt`,
  ])('is refused if no script can have written it: %j', (text) => {
    expect(() => parseStoredEvent(text)).toThrow(/is not (an event of a hub|valid JSON)/)
  })
})

describe('the history of a channel', () => {
  it('begins before the first event that is kept', () => {
    expect(readOf(['7', [storedEvent(5, 3), storedEvent(7, 5)], []])).toEqual([3, 5, 7])
  })

  it('is complete if the script says so, and else begins at the floor', () => {
    expect(readOf([''])).toEqual([0])
    expect(readOf(['9'])).toEqual([9])
    expect(readOf(['9', [], []])).toEqual([9])
  })

  it('is empty if the newest event is gone', () => {
    expect(readOf(['9', [storedEvent(5, 3), storedEvent(7, 5)], []])).toEqual([9])
  })

  it('begins after an event that is missing in the middle', () => {
    expect(readOf(['9', [storedEvent(2, 1), storedEvent(3, 2), storedEvent(7, 5), storedEvent(9, 7)], []])).toEqual([5, 7, 9])
  })

  it('continues across events that were replaced', () => {
    expect(
      readOf(['9', [storedEvent(2, 1), storedEvent(7, 5), storedEvent(9, 8)], ['key:x', '9', 'previous:7', '2', 'previous:9', '7']]),
    ).toEqual([1, 2, 7, 9])
  })
})
