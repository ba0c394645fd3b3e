import { app as access } from '../../demo/examples/access.ts'
import { app as idempotency } from '../../demo/examples/idempotency.ts'
import { app as limits } from '../../demo/examples/limits.ts'
import { app as schemas } from '../../demo/examples/schemas.ts'
import { app as shutdown, shutDown } from '../../demo/examples/shutdown.ts'
import { app as snapshot } from '../../demo/examples/snapshot.ts'
import { app as ticker } from '../../demo/examples/ticker.ts'
import { app as letters, countLetters } from '../../demo/examples/count-letters.ts'
import { readdirSync } from 'node:fs'
import path from 'node:path'
import request from 'supertest'
import { TestClient, until } from '../support/client.ts'
import { serve, stopServers } from '../support/servers.ts'

afterEach(stopServers)

const connect = async (url: string, headers: Record<string, string> = {}): Promise<TestClient> =>
  TestClient.open(`${url}/events`, { headers })

describe('the example', () => {
  it('snapshot begins with the state and continues with changes', async () => {
    const { url } = await serve(snapshot)
    const client = await (await connect(url)).live()
    await request(url).put('/tasks/1/milk').expect(200)
    await until(() => client.named('saved').length === 1, 'the task has arrived')
    expect(client.events.map(({ event, data }) => [event, data])).toEqual([
      ['tasks', '[{"id":"0","text":"bread"}]'],
      ['stream-open', expect.any(String)],
      ['saved', '{"id":"1","text":"milk"}'],
    ])
    expect((await (await connect(url)).live()).named('tasks')[0]?.data).toBe('[{"id":"0","text":"bread"},{"id":"1","text":"milk"}]')
  })

  it('schemas sends the output of a schema, and answers an invalid payload with 422', async () => {
    const { url } = await serve(schemas)
    const client = await (await connect(url)).live()
    await request(url).post('/orders').send({ id: '7', total: 12 }).expect(201)
    await client.received(2)
    expect(client.data).toEqual([{ id: '7', total: 12, currency: 'EUR' }, { text: 'somebody ordered' }])
    const refused = await request(url).post('/orders').send({ id: '7', total: 'much' }).expect(422)
    expect((refused.body as { error: string }).error).toMatch(/'created'.*'orders'.*total/)
  })

  it('access refuses the channels of other users, and ends the streams of a user who logs out', async () => {
    const { url } = await serve(access)
    const as = (user: string) => ({ authorization: user })
    await request(url).get('/events?channel=news').expect(401)
    await request(url).get('/events?channel=user:bob').set(as('ann')).expect(403)
    const open = (user: string): Promise<TestClient> =>
      TestClient.open(`${url}/events?channel=news&channel=user:${user}`, { headers: as(user) })
    const ann = await (await open('ann')).live()
    const bob = await (await open('bob')).live()
    const logout = await request(url).post('/logout').set(as('ann')).expect(200)
    expect(logout.body).toEqual({ ended: 1 })
    await ann.over()
    await request(url).get('/events?channel=news').set(as('ann')).expect(401)
    await request(url).post('/news/hello').set(as('bob')).expect(200)
    await bob.received(1)
    expect([ann.channelEvents, bob.channelEvents.map(({ data }) => data)]).toEqual([[], ['hello']])
  })

  it('limits refuses the third stream of a user with a retry', async () => {
    const { url } = await serve(limits)
    const open = (user: string): Promise<TestClient> => TestClient.open(`${url}/events/${user}`)
    for (let n = 0; n < 2; n++) await (await open('ann')).live()
    const third = await open('ann')
    await third.over()
    expect([third.status, third.events.map(({ data }) => data), (third.retries.at(-1) ?? 0) >= 10_000]).toEqual([
      200,
      ['{"reason":"limit"}'],
      true,
    ])
    const refused = await request(url).get('/events/ann').set('accept', 'text/html').expect(503)
    expect(Number(refused.get('retry-after'))).toBeGreaterThanOrEqual(10)
    await (await open('bob')).live()
  })

  it('count-letters reads every word and publishes the count', async () => {
    const { url } = await serve(letters)
    const client = await (await connect(url)).live()
    const stop = new AbortController()
    const counting = countLetters(stop.signal)
    for (const word of ['hello', 'you', 'there']) await request(url).post(`/words/${word}`).expect(200)
    await client.received(3)
    expect(client.data).toEqual([5, 8, 13])
    stop.abort()
    await counting
  })

  it('idempotency returns the same id for the second publish, and sends one event', async () => {
    const { url } = await serve(idempotency)
    const client = await (await connect(url)).live()
    const first = await request(url).post('/jobs/7/run').expect(200)
    const second = await request(url).post('/jobs/7/run').expect(200)
    await request(url).post('/jobs/8/run').expect(200)
    await client.received(2)
    expect(second.body).toEqual(first.body)
    expect(client.data).toEqual([{ job: '7' }, { job: '8' }])
  })

  it('ticker begins with the newest price of each symbol', async () => {
    const { url } = await serve(ticker)
    for (const price of ['ACME/1', 'BETA/2', 'ACME/3']) await request(url).post(`/prices/${price}`).expect(200)
    const client = await (await connect(url)).live()
    expect(client.data).toEqual([
      { symbol: 'BETA', price: 2 },
      { symbol: 'ACME', price: 3 },
    ])
  })

  it('shutdown ends every stream with a retry, and closes the server', async () => {
    const { url, server } = await serve(shutdown)
    const clients = await Promise.all(Array.from({ length: 10 }, async () => (await connect(url)).live()))
    await shutDown(server, 100)
    for (const client of clients) await client.over()
    expect(server.listening).toBe(false)
    expect(clients.every(({ retries }) => (retries.at(-1) ?? 0) >= 1_000)).toBe(true)
  })

  it('has a test here for every file', () => {
    const files = readdirSync(path.join(__dirname, '../../demo/examples')).map((file) => file.replace('.ts', ''))
    expect(files.toSorted()).toEqual(['access', 'count-letters', 'idempotency', 'limits', 'schemas', 'shutdown', 'snapshot', 'ticker'])
  })
})
