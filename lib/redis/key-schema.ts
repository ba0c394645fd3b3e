/**
 * The names of all keys and pub/sub channels of a hub in Redis, and the form of the values.
 *
 * Every name begins with the base, which each script receives as `KEYS[1]`; see {@link baseName}. It is `{sse}` by default and
 * `{sse}` below. The braces are a hash tag: they put all keys of a hub into one hash slot of a cluster.
 *
 * Keys:
 *
 *     {sse}                              hash: the state of the log
 *       epoch                            epoch of the log
 *       last_position                    newest position of the hub
 *       server_run_id                    run_id of the server; '' until a hub that is not durable has written it
 *       forgotten_floor                  newest position of the channels that were forgotten
 *       sweep_cursor                     HSCAN cursor at which the next sweep continues
 *       vital_count                      number of vital control messages in this epoch
 *       channel:<channel>                state of the channel's log: "<last position> <written bytes> <dropped bytes>
 *                                        <maxAgeMs> <1 if latestPerKey, else 0>"
 *     {sse}:events:<epoch>:<channel>     stream: the log of a channel; the entry <position>-0 has these fields
 *       event                            the stored event, see below
 *       written_bytes                    written bytes of the log up to this entry; absent if latestPerKey
 *     {sse}:keys:<epoch>:<channel>       hash, for channels with latestPerKey
 *       key:<key>                        position of the event with this key
 *       previous:<position>              position before the event at <position>, if the one in the stored event was replaced
 *     {sse}:idempotency:<epoch>:<bytes of the channel's name>:<channel><idempotency key>
 *                                        string: position of the event that was published with the idempotency key
 *     {sse}:control-log:<epoch>          list: the newest vital control messages, for processes that were disconnected
 *     {sse}:processes                    sorted set: process ids by the time until which each counts as alive (ms since 1970)
 *     {sse}:owner:<owner>                hash: number of the owner's streams by process id
 *
 * Pub/sub channels:
 *
 *     {sse}:channel:<channel>            stored events of the channel
 *     {sse}:control                      to all processes: "<epoch> <number of the vital control message, or 0>\n<text>"
 *     {sse}:process:<process id>         to one process: "control\n<text>", or "reached <epoch> <vital_count>\n<token>" as the
 *                                        marker of a read
 *
 * Stored event:
 *
 *     "<epoch> <position> <previous position> <1 if the data is a string, else 0>\n<event>\n<key as JSON, or nothing>\n<data>"
 *
 * The one hash has everything that decides whether a log is complete. If Redis loses it, the epoch is lost too, and no id of a
 * client counts as complete. If Redis loses a stream, the state of its channel reveals that.
 *
 * The state of a channel is one string of five parts for speed. A publish reads and writes all five, and five fields per
 * channel would give the hash five times the entries to look up, to scan and to hold in memory. The log keeps the difference of
 * its written bytes and its dropped bytes; if latestPerKey, the written bytes are those that are kept, and the dropped ones 0.
 */

/** The base of all names: the client's `keyPrefix`, then the `prefix` option and a database other than 0 in braces. */
export function baseName(prefix: string, keyPrefix: string, db: number): string {
  // Redis separates the keys of its databases, but not their pub/sub channels, so the name has to. The `keyPrefix` stays outside
  // the braces: an ACL that allows the keys that begin with it keeps working.
  return keyPrefix + (db === 0 ? `{${prefix}}` : `{${prefix}:${db}}`)
}

/** The names that TypeScript uses. */
export const names = {
  processes: (base: string): string => `${base}:processes`,
  channelMessages: (base: string, channel: string): string => `${base}:channel:${channel}`,
  controlMessages: (base: string): string => `${base}:control`,
  processMessages: (base: string, processId: string): string => `${base}:process:${processId}`,
}

/**
 * The names as Lua expressions. Each reads the Lua variables `base` and, if the name contains it, `epoch`; the arguments are
 * the Lua expressions of the other parts. The scripts contain the expressions themselves, not Lua functions that build the
 * names, because a script would create such functions anew on each call.
 */
export const luaNames = {
  events: (channel: string): string => `base .. ':events:' .. epoch .. ':' .. ${channel}`,
  keys: (channel: string): string => `base .. ':keys:' .. epoch .. ':' .. ${channel}`,
  // The length keeps apart what a channel ends with and what an idempotency key begins with.
  idempotency: (channel: string, idempotencyKey: string): string =>
    `base .. ':idempotency:' .. epoch .. ':' .. #${channel} .. ':' .. ${channel} .. ${idempotencyKey}`,
  controlLog: `base .. ':control-log:' .. epoch`,
  processes: `base .. ':processes'`,
  owner: (owner: string): string => `base .. ':owner:' .. ${owner}`,
  channelMessages: (channel: string): string => `base .. ':channel:' .. ${channel}`,
  controlMessages: `base .. ':control'`,
  processMessages: (processId: string): string => `base .. ':process:' .. ${processId}`,
}

/** The field of the hash that has the state of a channel, as a Lua expression. */
export const luaChannelField = (channel: string): string => `'channel:' .. ${channel}`

/** The glob of the fields that have the state of a channel, and the Lua index in such a field at which the channel begins. */
export const CHANNEL_FIELDS = { glob: 'channel:*', nameFrom: 'channel:'.length + 1 }

/** The Lua pattern of a channel's state. It captures: last position, written bytes, dropped bytes, maxAgeMs, latestPerKey. */
export const LUA_CHANNEL_STATE = `'^(%d+) (%d+) (%d+) (%d+) (%d)$'`
