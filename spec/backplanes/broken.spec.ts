import { AutonomousEngine } from '../support/autonomous-backplane.ts'
import { type Fault, FAULTS } from '../support/engine-faults.ts'
import { CASES, casesFor, runCase } from './contract.ts'

/** The faults that each case must catch. */
const CAUGHT: Readonly<Record<string, readonly Fault[]>> = {
  'gives every event a unique position in microseconds, in one order for all nodes': [
    'answers with the position of another event',
    'counts positions from one',
    'publishes out of order',
    'uses an epoch for each node',
  ],
  'delivers all events to every node, unchanged and in the order of their positions': [
    'stores an event twice',
    'loses an event',
    'swaps two events',
  ],
  'delivers each event with the previous position of its channel': ['omits the previous position'],
  'delivers every event that is published after watch() has resolved': ['watches after it has answered'],
  'reports a log head as reached after all events before it, and before all that follow': [
    'reports a log head as reached too early',
    'returns a log head that is too old',
  ],
  'reads all channels at one log head': ['reads before the log head that it returns', 'reads channels at different log heads'],
  'returns a floor between the dropped events and the kept ones': [
    'returns no floor',
    'returns a floor that is too high',
    'drops more events than the bounds require',
    'drops no event',
  ],
  'returns every kept event if the position is of another epoch': ['reads positions of another epoch as its own'],
  'delivers no event of a channel after unwatch(), and still those of the others': ['does not unwatch'],
  'refuses one channel alone, in watch() and after an interruption, until it is admitted': [
    'refuses every channel of a call with a refused one',
    'does not report a refusal',
    'refuses a channel for good',
  ],
  'reports an interruption, delivers nothing during it, and delivers every watched channel after it': [
    'delivers during an interruption',
    'does not report an interruption',
    'forgets the watched channels',
  ],
  'recognises a repeated publish by its idempotency key, per channel and on every node': [
    'ignores idempotency keys',
    'keeps idempotency keys per node',
    'shares idempotency keys between channels',
  ],
  'carries control messages to every node, or to one': [
    'loses control messages',
    'sends a control message for one process to all',
    'knows no other process',
  ],
  'delivers an event before publish() returns, and starts at the position that open() returns': [
    'delivers after publish returns',
    'forgets its starting position',
  ],
  'rejects every call after close(), and no longer calls its host': [
    'answers after close',
    'delivers after close',
    'stores after close',
    'closes every node',
    'lists closed processes',
  ],
  'rejects every call as soon as close() is called': ['answers while it closes'],
  'delivers the events of many publishers to all nodes in one order, within and across channels': [
    'loses an event',
    'swaps two events',
    'publishes out of order',
  ],
  'delivers to a live client the next event of any node': ['watches after it has answered'],
  'starts events() with what its hub publishes right after the call, and nothing from before': [
    'reads before the log head that it returns',
    'returns a log head that is too old',
  ],
  'delivers to a resuming client every event before, during and right after the read of its channel, once and in order': [
    'reads before the log head that it returns',
    'reads channels at different log heads',
  ],
  'delivers to a client without an id every event since it subscribed': [
    'reads before the log head that it returns',
    'returns a log head that is too old',
  ],
  'delivers a burst between the read of a channel and its live delivery once and in order': [
    'reads before the log head that it returns',
    'reads channels at different log heads',
  ],
  'loses no event of a live channel while another channel is read for the same client': ['reports a log head as reached too early'],
  'delivers an event once although the engine repeats it, before the channel is live or later': ['repeats an event at a new position'],
  'delivers every event once and in order to a client that moves between nodes': [
    'swaps two events',
    'reports a log head as reached too early',
  ],
  'catches up after an interruption with the events that were published during it': ['loses an event', 'forgets the watched channels'],
  'loses no event of other channels while one is refused, and none of that one once it is admitted': [
    'refuses every channel of a call with a refused one',
    'does not report a refusal',
    'refuses a channel for good',
  ],
  'resumes after any event with exactly the events that follow, on every node, by stream and by events()': [
    'stores an event twice',
    'loses an event',
    'uses an epoch for each node',
  ],
  'resets a client that missed an event dropped by maxEvents, and no other': [
    'returns no floor',
    'returns a floor that is too high',
    'drops more events than the bounds require',
  ],
  'resets a client that missed an event dropped by maxBytes, and no other': ['returns no floor', 'returns a floor that is too high'],
  'resets a client that missed an event dropped by maxAgeMs, and no other': [
    'counts positions from one',
    'returns a log head that is too old',
  ],
  'answers an id that no hub can have written with one reset, and then delivers new events': [
    'returns a floor that is too high',
    'uses an epoch for each node',
  ],
  'answers an id ahead of the log head with one reset': ['returns a log head that is in the future'],
  'answers an id of another log with one reset': ['uses one epoch for all logs'],
  'resumes a client whose id is ahead of what its node has received': ['returns a log head that is too old', 'uses an epoch for each node'],
  'resets no client of a channel without events, and delivers the first event to clients that were there before': [
    'returns a floor that is too high',
    'returns a log head that is too old',
  ],
  'resets only the channel that was trimmed, and replays the other in full': ['returns no floor', 'returns a floor that is too high'],
  'delivers a channel that keeps no events live, and resets a client that missed one': ['returns no floor'],
  'rewinds to the last events of each channel, also on a node without subscribers of them': ['returns a floor that is too high'],
  'replays events from before a node joined on that node': ['returns a floor that is too high', 'closes every node'],
  'resets a client whose id is older than the start of its node, and no other': ['forgets its starting position'],
  'replays only the newest event of each key, and resets no client for replaced events': [
    'forgets event keys',
    'counts replaced events as dropped',
  ],
  'resets a client that missed a dropped event of a channel that keeps the latest per key': [
    'returns no floor',
    'counts replaced events as dropped',
  ],
  'carries strings and JSON values unchanged, live and replayed': ['treats every payload as a string', 'trims payloads'],
  'carries payloads of a megabyte, live and replayed': ['truncates long payloads'],
  'keeps channels apart whatever characters their names contain': [
    'confuses similar channel names',
    'shares idempotency keys between channels',
  ],
  'carries event names unchanged, live and replayed': ['changes event names'],
  'shows filters the same events on every node, live and replayed': ['treats every payload as a string', 'swaps two events'],
  'ends the streams of an owner on every node, and resolves with their number': ['knows no other process'],
  'ends the streams that have only one channel on every node, for good if asked': ['knows no other process', 'loses an event'],
  'adds up the stats of all nodes': ['knows no other process'],
  'counts the streams of an owner on all nodes against its limit': ['counts streams per node', 'never releases streams'],
  'reports whether an owner at its limit has streams on other nodes': [
    'counts streams of other nodes as its own',
    'never releases streams',
  ],
  'admits no more streams of an owner than its limit if they arrive on all nodes at once': ['counts streams too late'],
  'ends the oldest stream of an owner, on any node, to admit a new one': ['counts streams per node', 'knows no other process'],
  'stores an event once although any node publishes it again with its idempotency key, at any time': [
    'remembers idempotency keys too late',
    'keeps idempotency keys per node',
  ],
  'keeps serving on the other nodes when one closes': ['closes every node', 'knows no other process'],
  'refuses everything on a closed hub': ['answers after close'],
}

/** The time that a case waits with a faulty engine, in which the awaited event often never happens. */
const PATIENCE_MS = 400

describe.each([
  ['with a log', true, casesFor(['log', 'limits', 'repeats', 'refuses'])],
  ['without a log', false, casesFor(['no log'])],
] as const)('a simulated engine %s', (_, hasLog, cases) => {
  it.each(cases)('$name', async (each) => {
    expect.hasAssertions()
    await runCase(each, () => new AutonomousEngine([], hasLog))
  })
})

describe('the contract', () => {
  it('has a fault for each of its cases, and a case for each fault', () => {
    expect(Object.keys(CAUGHT)).toEqual(CASES.map(({ name }) => name))
    expect(new Set(Object.values(CAUGHT).flat())).toEqual(new Set(FAULTS))
  })

  const pairs = CASES.flatMap((each) => (CAUGHT[each.name] ?? []).map((fault) => ({ ...each, each, fault })))

  it.each(pairs)('"$name" fails if the engine has the fault: $fault', async ({ each, fault }) => {
    const hasLog = !each.needs?.includes('no log')
    // The case itself must fail, rather than something around it.
    await expect(runCase(each, () => new AutonomousEngine([fault], hasLog), PATIENCE_MS)).rejects.toThrow(
      /expect|timed out waiting|backplane is closed/,
    )
  })
})
