import { Hub } from '../../lib/index.ts'
import { FakeConnection, turn } from '../support/fake-connection.ts'
import { publication } from '../support/publication.ts'
import { sized } from '../support/scale.ts'
import { SimulatedEngine } from '../support/simulated-engine.ts'
import { SteppedBackplane } from '../support/stepped-backplane.ts'
import { subscribeTo } from '../support/subscribe.ts'

/** A hub over an engine whose calls and answers arrive when the test says so. */
class TestHub {
  readonly engine = new SimulatedEngine()
  readonly backplane = new SteppedBackplane(this.engine)
  readonly errors: string[] = []
  readonly hub = new Hub({ backplane: this.backplane, onError: (error) => void this.errors.push((error as Error).message) })

  constructor() {
    this.backplane.connect()
  }

  publish(channel: string, data: string): void {
    this.engine.publish(publication(channel, data))
  }

  /** Lets everything that is on its way arrive. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 3;) {
      const hasArrived = this.backplane.arrive(0.1)
      await turn()
      quiet = hasArrived ? 0 : quiet + 1
    }
  }

  async subscribe(channels: readonly string[], lastEventId = ''): Promise<FakeConnection | string> {
    const connection = new FakeConnection()
    const refusal = await subscribeTo(this.hub, channels, connection, lastEventId, {}, () => this.settle())
    return refusal?.reason ?? connection
  }

  async stream(channels: readonly string[], lastEventId = ''): Promise<FakeConnection> {
    const connection = await this.subscribe(channels, lastEventId)
    if (typeof connection === 'string') throw new Error(`refused: ${connection}`)
    return connection
  }

  /** Breaks the connection, and restores it afterwards. */
  async interrupt(meanwhile: () => void): Promise<void> {
    this.backplane.disconnect()
    meanwhile()
    this.backplane.connect()
    await this.settle()
  }
}

const dataOf = (connection: FakeConnection): string[] => connection.channelEvents.map(({ data }) => data)
const lastIdOf = (connection: FakeConnection): string => connection.events.findLast(({ id }) => id !== undefined)?.id ?? ''

describe('a channel that a backplane refuses', () => {
  const made: TestHub[] = []
  const setUp = async (): Promise<TestHub> => {
    const test = new TestHub()
    made.push(test)
    await test.settle()
    return test
  }

  afterEach(async () => {
    await Promise.all(made.splice(0).map(({ hub }) => hub.close()))
  })

  it('ends every stream that has it before the stream receives later events of other channels, even with many streams', async () => {
    const test = await setUp()
    const first = await test.stream(['x', 'b'])
    const streams = [first, ...(await Promise.all(Array.from({ length: sized(20_000, 4_000) }, () => test.stream(['x', 'b']))))]
    const other = await test.stream(['b'])
    test.publish('x', 'before')
    await test.settle()
    await test.interrupt(() => {
      test.publish('x', 'missed')
      test.publish('b', 'after')
      test.engine.unwatchable.add('x')
    })
    while (dataOf(other).length === 0) await test.settle()
    expect(streams.filter(({ isOpen }) => isOpen).length).toBe(0)
    expect(streams.filter((stream) => stream.text.includes('after')).length).toBe(0)
    expect(dataOf(other)).toEqual(['after'])
    expect(await test.subscribe(['b', 'x'], lastIdOf(first))).toBe('backplane')
    test.engine.unwatchable.clear()
    const again = await test.stream(['x', 'b'], lastIdOf(first))
    expect([dataOf(first), dataOf(again)]).toEqual([['before'], ['missed', 'after']])
  })

  it('makes events() reject after the events that it holds, at a position from which a client resumes without loss', async () => {
    const test = await setUp()
    const events = test.hub.events(['x', 'b'])
    const waiting = events.next()
    await test.settle()
    test.publish('x', 'one')
    test.publish('b', 'two')
    await test.settle()
    expect((await waiting).value).toMatchObject({ data: 'one' })
    await test.interrupt(() => {
      test.publish('x', 'missed')
      test.publish('b', 'after')
      test.engine.unwatchable.add('x')
    })
    expect((await events.next()).value).toMatchObject({ data: 'two' })
    const { lastEventId } = events
    await expect(events.next()).rejects.toThrow("the simulated engine refuses to watch 'x'")
    expect(await events.next()).toEqual({ done: true, value: undefined })
    expect(events.lastEventId).toBe(lastEventId)
    test.engine.unwatchable.clear()
    const again = await test.stream(['x', 'b'], lastEventId)
    expect(dataOf(again)).toEqual(['missed', 'after'])
  })

  it('makes events() reject that were about to begin, on a channel that was ready', async () => {
    const test = await setUp()
    await test.stream(['x'])
    test.backplane.disconnect()
    test.engine.unwatchable.add('x')
    // The hub does not know the epoch of this id yet.
    const item = test.hub.events(['x'], { lastEventId: '0123456789-5/x' }).next()
    const answer = item.then(
      () => 'an item',
      (error: Error) => error.message,
    )
    await turn()
    test.backplane.connect()
    await test.settle()
    expect(await answer).toBe("the simulated engine refuses to watch 'x'")
  })

  it('is read again once the engine admits it, and its events are not taken twice', async () => {
    const test = await setUp()
    const stream = await test.stream(['x'])
    test.publish('x', 'one')
    await test.settle()
    test.engine.unreadable.add('x')
    await test.interrupt(() => test.publish('x', 'two'))
    expect([stream.isOpen, dataOf(stream)]).toEqual([false, ['one']])
    expect(await test.subscribe(['x'])).toBe('backplane')
    test.engine.unreadable.clear()
    const [fromOne, first] = [await test.stream(['x'], lastIdOf(stream)), await test.stream(['x'])]
    test.publish('x', 'three')
    await test.settle()
    expect([dataOf(fromOne), dataOf(first)]).toEqual([['two', 'three'], ['three']])
  })

  it('is reported once, and again after it was admitted in between', async () => {
    const test = await setUp()
    const ask = async (): Promise<unknown[]> => {
      const answers: unknown[] = []
      for (let n = 0; n < 3; n++) for (const channel of ['x', 'y']) answers.push(await test.subscribe([channel]))
      return answers
    }
    for (let round = 0; round < 2; round++) {
      test.engine.unwatchable.add('x').add('y')
      await test.interrupt(() => {})
      expect(await ask()).toEqual(Array(6).fill('backplane'))
      expect(test.errors.splice(0)).toEqual(["the simulated engine refuses to watch 'x'", "the simulated engine refuses to watch 'y'"])
      test.engine.unwatchable.clear()
      for (const answer of await ask()) expect(answer).toBeInstanceOf(FakeConnection)
    }
    expect(test.hub.health()).toBe(true)
  })
})
