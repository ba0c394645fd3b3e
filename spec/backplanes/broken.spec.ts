import { type Fault, FAULTS, SimulatedEngine } from '../support/simulated-backplane.ts'
import { CASES, casesFor, runCase } from './contract.ts'

/** What each case is there to notice. */
const NOTICED: Readonly<Record<string, readonly Fault[]>> = {
  'gives every event a place of its own in one order of microseconds, whichever node publishes': [
    'answers with the place of another event',
    'counts places from one',
    'publishes in no order',
    'an epoch for each node',
  ],
  'tells every node of all events, in the order of their places, as they were published': [
    'stores an event twice',
    'loses an event',
    'swaps two events',
  ],
  'names with each event the one before it in its channel': ['names no event before'],
  'tells of what is published once watch() has resolved': ['watches late'],
  'tells that a moment is reached after all events before it, and before all that follow': [
    'says too early that a moment is reached',
    'gives a moment that has passed',
  ],
  'reads of all channels what there was at one moment': ['reads too early', 'reads channel by channel'],
  'says up to where events are gone, and only that': [
    'claims what was dropped',
    'claims too little',
    'drops more than it must',
    'drops nothing',
  ],
  'reads all that is kept where a place is of another epoch': ['reads places of another epoch as its own'],
  'tells nothing of a channel that is not watched any more, and goes on with the others': ['does not unwatch'],
  'refuses a channel alone, to who watches it and to who comes back, until it is admitted': [
    'refuses all that is asked for with a refused channel',
    'is silent about a refusal',
    'never asks again for a refused channel',
  ],
  'tells when it is interrupted and when it is back, nothing in between, and then of all channels that are watched': [
    'tells while it is interrupted',
    'does not say that it was interrupted',
    'forgets what was watched',
  ],
  'knows a publish again by its idempotency key, in its channel, on every node': [
    'ignores idempotency keys',
    'keeps idempotency keys for each node',
    'keeps idempotency keys for all channels',
  ],
  'carries signals to every node, and to one': ['loses signals', 'sends to all', 'knows no other process'],
  'tells of an event before publish() returns, from the place on at which open() began': [
    'tells after publish returns',
    'forgets where it began',
  ],
  'rejects every call once it is closed, and tells its host nothing more': [
    'resolves after close',
    'tells after close',
    'stores after close',
    'closes all',
    'knows processes that are gone',
  ],
  'rejects every call from the moment on at which it is told to close': ['resolves while it closes'],
  'gives all nodes all events of many publishers in one order, on each channel and across channels': [
    'loses an event',
    'swaps two events',
    'publishes in no order',
  ],
  'lets a client that is live hear what any node publishes right after': ['watches late'],
  'lets events() hear what its hub publishes right after the call, and nothing from before': [
    'reads too early',
    'gives a moment that has passed',
  ],
  'gives a client that resumes what is published before, during and right after the read of its channel, once and in order': [
    'reads too early',
    'reads channel by channel',
  ],
  'gives a client without an id what is published from the moment on at which it came': [
    'reads too early',
    'gives a moment that has passed',
  ],
  'gives a burst that comes between the read of a channel and its going live, once and in order': [
    'reads too early',
    'reads channel by channel',
  ],
  'loses nothing of a channel that is followed already while another is read for the same client': [
    'says too early that a moment is reached',
  ],
  'gives nobody twice what the engine tells again, before the channel is live or late': ['gives what it tells again another place'],
  'gives a client that goes from node to node while others publish everything once and in order': [
    'swaps two events',
    'says too early that a moment is reached',
  ],
  'catches up with what was published while the connection of a node was broken': ['loses an event', 'forgets what was watched'],
  'loses nothing of the other channels while one is refused, and goes on with that one where clients were': [
    'refuses all that is asked for with a refused channel',
    'is silent about a refusal',
    'never asks again for a refused channel',
  ],
  'resumes after any event with exactly what follows, on every node, by stream and by events()': [
    'stores an event twice',
    'loses an event',
    'an epoch for each node',
  ],
  'resets who comes from before what the bound by count dropped, and nobody else': [
    'claims what was dropped',
    'claims too little',
    'drops more than it must',
  ],
  'resets who comes from before what the bound by bytes dropped, and nobody else': ['claims what was dropped', 'claims too little'],
  'resets who missed an event that is too old by now, and not who had it': ['counts places from one', 'gives a moment that has passed'],
  'answers an id that no hub can have written with one reset, and what is published then': ['claims too little', 'an epoch for each node'],
  'answers an id that is ahead of the newest of all nodes with one reset': ['gives a moment that is yet to come'],
  'answers an id of another log with one reset': ['one epoch for all logs'],
  'resumes a client whose id is ahead of what its node has heard of': ['gives a moment that has passed', 'an epoch for each node'],
  'resets nobody on a channel that was never used, and gives its first event to who came before it': [
    'claims too little',
    'gives a moment that has passed',
  ],
  'resets the one channel of two that was trimmed, and gives all of the other': ['claims what was dropped', 'claims too little'],
  'gives live what a channel without a log carries, and resets who missed some of it': ['claims what was dropped'],
  'rewinds to the last events of each channel, on a node that never followed them, too': ['claims too little'],
  'serves those who come to a node that joined later, from before it joined': ['claims too little', 'closes all'],
  'resets those who come to a node that joined later with an id from before that, and goes on with the others': ['forgets where it began'],
  'replays only the newest event of each key, whoever published it, and resets nobody for what was replaced': [
    'forgets the keys of events',
    'counts what was replaced as dropped',
  ],
  'resets who comes from before what was dropped of a channel that keeps the latest of each key': [
    'claims what was dropped',
    'counts what was replaced as dropped',
  ],
  'carries strings and JSON values as they are, live and replayed': ['forgets what is a string', 'trims texts'],
  'carries payloads of a megabyte, live and replayed': ['cuts long texts'],
  'keeps channels apart, whatever characters are in their names': [
    'takes names of channels for alike',
    'keeps idempotency keys for all channels',
  ],
  'carries names of events as they are, live and replayed': ['changes names of events'],
  'shows filters the same events on every node, live and replayed': ['forgets what is a string', 'swaps two events'],
  'ends the streams of an owner on every node, and resolves to how many those were': ['knows no other process'],
  'ends the streams that have only one channel on every node, for good where that is asked for': [
    'knows no other process',
    'loses an event',
  ],
  'adds up what all nodes have': ['knows no other process'],
  'counts the streams of an owner on all nodes against its limit': ['counts streams for each node', 'never releases streams'],
  'says of an owner at its limit whether streams of other nodes are among those counted': [
    'takes the streams of others for those of the node',
    'never releases streams',
  ],
  'lets in no more of an owner than its limit when they come to all nodes at once': ['counts streams late'],
  'ends the oldest stream of an owner, on whichever node it is, for one more': ['counts streams for each node', 'knows no other process'],
  'stores what is published again with its idempotency key once, whoever publishes it and when': [
    'is late to remember idempotency keys',
    'keeps idempotency keys for each node',
  ],
  'goes on with the other nodes when one is closed': ['closes all', 'knows no other process'],
  'refuses everything on a hub that is closed': ['resolves after close'],
}

/** In a broken engine what should happen often does not: it is not waited for long. */
const IMPATIENCE_MS = 400

describe.each([
  ['with a log', true, casesFor(['log', 'limits', 'repeats', 'refuses'])],
  ['without a log', false, casesFor(['no log'])],
] as const)('a simulated engine %s', (_, hasLog, cases) => {
  it.each(cases)('$name', async (each) => {
    expect.hasAssertions()
    await runCase(each, () => new SimulatedEngine([], hasLog))
  })
})

describe('the contract', () => {
  it('has a fault for each of its cases, and a case for each fault', () => {
    expect(Object.keys(NOTICED)).toEqual(CASES.map(({ name }) => name))
    expect(new Set(Object.values(NOTICED).flat())).toEqual(new Set(FAULTS))
  })

  const pairs = CASES.flatMap((each) => (NOTICED[each.name] ?? []).map((fault) => ({ ...each, each, fault })))

  it.each(pairs)('"$name" fails where an engine has the fault: $fault', async ({ each, fault }) => {
    const hasLog = !each.needs?.includes('no log')
    // By what it says, and not because something else went wrong.
    await expect(runCase(each, () => new SimulatedEngine([fault], hasLog), IMPATIENCE_MS)).rejects.toThrow(
      /expect|timed out waiting|backplane is closed/,
    )
  })
})
