import { Hub } from '../../lib/index.ts'
import { FakeConnection, turn } from '../support/fake-connection.ts'
import { subscribeTo } from '../support/subscribe.ts'
import { SimulatedBackplane, SimulatedEngine } from '../support/simulated-engine.ts'
import { sized } from '../support/scale.ts'

/** A hub over an engine whose answers come when the test says so. */
class World {
  readonly engine = new SimulatedEngine()
  readonly backplane = new SimulatedBackplane(this.engine)
  readonly errors: string[] = []
  readonly hub = new Hub({ backplane: this.backplane, onError: (error) => void this.errors.push((error as Error).message) })

  constructor() {
    this.backplane.connect()
  }

  publish(channel: string, data: string): void {
    this.engine.publish(channel, 'e', data, 1_000)
  }

  /** Lets everything that is under way arrive. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 3;) {
      const isMoving = this.backplane.arrive(0.1)
      await turn()
      quiet = isMoving ? 0 : quiet + 1
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

  /** The connection breaks, and comes back. */
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
  const worlds: World[] = []
  const begin = async (): Promise<World> => {
    const world = new World()
    worlds.push(world)
    await world.settle()
    return world
  }

  afterEach(async () => {
    await Promise.all(worlds.splice(0).map(({ hub }) => hub.close()))
  })

  it('ends all who follow it before they are given what comes after in other channels, however many they are', async () => {
    const world = await begin()
    const first = await world.stream(['x', 'b'])
    const streams = [first, ...(await Promise.all(Array.from({ length: sized(20_000, 4_000) }, () => world.stream(['x', 'b']))))]
    const other = await world.stream(['b'])
    world.publish('x', 'before')
    await world.settle()
    await world.interrupt(() => {
      world.publish('x', 'missed')
      world.publish('b', 'after')
      world.engine.unwatchable.add('x')
    })
    while (dataOf(other).length === 0) await world.settle()
    expect(streams.filter(({ isOpen }) => isOpen).length).toBe(0)
    expect(streams.filter((stream) => stream.text.includes('after')).length).toBe(0)
    expect(dataOf(other)).toEqual(['after'])
    expect(await world.subscribe(['b', 'x'], lastIdOf(first))).toBe('backplane')
    world.engine.unwatchable.clear()
    const again = await world.stream(['x', 'b'], lastIdOf(first))
    expect([dataOf(first), dataOf(again)]).toEqual([['before'], ['missed', 'after']])
  })

  it('makes events() reject after what they hold, at a place from which nothing is missed', async () => {
    const world = await begin()
    const events = world.hub.events(['x', 'b'])
    const waiting = events.next()
    await world.settle()
    world.publish('x', 'one')
    world.publish('b', 'two')
    await world.settle()
    expect((await waiting).value).toMatchObject({ data: 'one' })
    await world.interrupt(() => {
      world.publish('x', 'missed')
      world.publish('b', 'after')
      world.engine.unwatchable.add('x')
    })
    expect((await events.next()).value).toMatchObject({ data: 'two' })
    const { lastEventId } = events
    await expect(events.next()).rejects.toThrow('x must not be watched')
    expect(await events.next()).toEqual({ done: true, value: undefined })
    expect(events.lastEventId).toBe(lastEventId)
    world.engine.unwatchable.clear()
    const again = await world.stream(['x', 'b'], lastEventId)
    expect(dataOf(again)).toEqual(['missed', 'after'])
  })

  it('does not let events() begin that were about to, on a channel that was ready', async () => {
    const world = await begin()
    await world.stream(['x'])
    world.backplane.disconnect()
    world.engine.unwatchable.add('x')
    // Of the life that this id names nothing is known yet.
    const item = world.hub.events(['x'], { lastEventId: '0123456789-5/x' }).next()
    const answer = item.then(
      () => 'an item',
      (error: Error) => error.message,
    )
    await turn()
    world.backplane.connect()
    await world.settle()
    expect(await answer).toBe('x must not be watched')
  })

  it('is read again once it may be, and what its log has is not taken twice', async () => {
    const world = await begin()
    const stream = await world.stream(['x'])
    world.publish('x', 'one')
    await world.settle()
    world.engine.unreadable.add('x')
    await world.interrupt(() => world.publish('x', 'two'))
    expect([stream.isOpen, dataOf(stream)]).toEqual([false, ['one']])
    expect(await world.subscribe(['x'])).toBe('backplane')
    world.engine.unreadable.clear()
    const [fromOne, first] = [await world.stream(['x'], lastIdOf(stream)), await world.stream(['x'])]
    world.publish('x', 'three')
    await world.settle()
    expect([dataOf(fromOne), dataOf(first)]).toEqual([['two', 'three'], ['three']])
  })

  it('is reported once, and again when it was admitted in between', async () => {
    const world = await begin()
    const ask = async (): Promise<unknown[]> => {
      const answers: unknown[] = []
      for (let n = 0; n < 3; n++) for (const channel of ['x', 'y']) answers.push(await world.subscribe([channel]))
      return answers
    }
    for (let round = 0; round < 2; round++) {
      world.engine.unwatchable.add('x').add('y')
      await world.interrupt(() => {})
      expect(await ask()).toEqual(Array(6).fill('backplane'))
      expect(world.errors.splice(0)).toEqual(['x must not be watched', 'y must not be watched'])
      world.engine.unwatchable.clear()
      for (const answer of await ask()) expect(answer).toBeInstanceOf(FakeConnection)
    }
    expect(world.hub.health()).toBe(true)
  })
})
