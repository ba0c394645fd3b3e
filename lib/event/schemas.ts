import { SseError, describeValue, publishPrefix } from '../basics/errors.ts'
import { isThenable } from '../basics/promises.ts'
import { checkChannelName, checkEventName } from '../basics/names.ts'

/** What a schema says of a payload that it refuses. */
export interface SchemaIssue {
  readonly message: string
  /** Where in the payload, from the outside in: names and indices, or objects with one as their `key`. */
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined
}

/**
 * A schema of any vendor that follows Standard Schema, version 1 (https://standardschema.dev): zod, valibot, arktype and
 * others do.
 */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1
    readonly vendor: string
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>
    readonly types?: { readonly input: Input; readonly output: Output } | undefined
  }
}

type SchemaResult<Output> = { readonly value: Output; readonly issues?: undefined } | { readonly issues: readonly SchemaIssue[] }

/**
 * A schema for each event of each channel. A name that ends with `*` stands for every channel that begins with what is
 * before it: `'user:*'` is the family `user:${string}`. Of several that fit, the longest counts.
 */
export type HubSchemas = Readonly<Record<string, Readonly<Record<string, StandardSchema>>>>

type NameOf<N> = N extends `${infer Prefix}*` ? `${Prefix}${string}` : N

/** The channels that schemas describe, with the payloads that subscribers see: what the schemas put out. */
export type SchemaChannels<S extends HubSchemas> = {
  [N in keyof S as NameOf<N>]: { [E in keyof S[N]]: SchemaTypes<S[N][E]>['output'] }
}

/** The same with the payloads that `publish` takes: what the schemas take in. */
export type SchemaInputs<S extends HubSchemas> = {
  [N in keyof S as NameOf<N>]: { [E in keyof S[N]]: SchemaTypes<S[N][E]>['input'] }
}

type SchemaTypes<S> = S extends StandardSchema ? NonNullable<S['~standard']['types']> : never

/** The schemas of a hub, found by channel and event. */
export class Schemas {
  readonly #exact = new Map<string, Map<string, StandardSchema>>()
  /** By the prefix, the longest first. */
  readonly #families: (readonly [prefix: string, events: Map<string, StandardSchema>])[] = []

  /** @throws {TypeError} for what is no Standard Schema, and what names throw. */
  constructor(schemas: HubSchemas) {
    for (const [channel, events] of Object.entries(checkMap('Hub: schemas', schemas))) {
      checkChannelName('Hub: schemas', channel)
      if (channel.slice(0, -1).includes('*')) {
        throw new SseError('SSE_INVALID_CHANNEL', `Hub: schemas: a * stands at the end of a name, got ${describeValue(channel)}`)
      }
      const found = new Map<string, StandardSchema>()
      const where = `Hub: schemas[${describeValue(channel)}]`
      for (const [event, schema] of Object.entries(checkMap(where, events))) {
        checkEventName(where, event)
        found.set(event, checkSchema(`${where}[${describeValue(event)}]`, schema))
      }
      if (channel.endsWith('*')) this.#families.push([channel.slice(0, -1), found])
      else this.#exact.set(channel, found)
    }
    this.#families.sort(([a], [b]) => b.length - a.length)
  }

  /**
   * Validates a payload. What the schema puts out is the payload from then on; only an asynchronous schema answers with a
   * promise.
   *
   * @throws {SseError} `SSE_INVALID_CHANNEL` and `SSE_INVALID_EVENT` for what has no schema; `SSE_INVALID_DATA` for what is
   *   refused, with the issues as its `cause`.
   */
  validate(channel: string, event: string, data: unknown): unknown {
    const where = (): string => publishPrefix(channel, event)
    const schema = this.#find(channel, event)
    let result: unknown
    try {
      result = schema['~standard'].validate(data)
    } catch (error) {
      throw failed(where, error)
    }
    if (!isThenable(result)) return outputOf(where, schema, result)
    return result.then(
      (settled) => outputOf(where, schema, settled),
      (error: unknown) => {
        throw failed(where, error)
      },
    )
  }

  #names(): string[] {
    return [...this.#exact.keys(), ...this.#families.map(([prefix]) => `${prefix}*`)]
  }

  #find(channel: string, event: string): StandardSchema {
    const events = this.#exact.get(channel) ?? this.#families.find(([prefix]) => channel.startsWith(prefix))?.[1]
    if (events === undefined) {
      throw new SseError(
        'SSE_INVALID_CHANNEL',
        `publish: the schemas have no channel ${describeValue(channel)}; they have ${listOf(this.#names())}`,
      )
    }
    const schema = events.get(event)
    if (schema === undefined) {
      throw new SseError(
        'SSE_INVALID_EVENT',
        `publish: the schemas have no event ${describeValue(event)} in channel ${describeValue(channel)}; it has ${listOf([...events.keys()])}`,
      )
    }
    return schema
  }
}

function outputOf(where: () => string, schema: StandardSchema, result: unknown): unknown {
  const { issues, value } = (typeof result === 'object' && result !== null ? result : { issues: null }) as {
    issues?: unknown
    value?: unknown
  }
  if (issues === undefined) return value
  if (!Array.isArray(issues)) throw failed(where, new TypeError(`validate returned ${describeValue(result)}`))
  const text = issues.map(issueText).join('; ')
  throw new SseError('SSE_INVALID_DATA', `${where()}the ${schema['~standard'].vendor} schema refused the payload: ${text}`, {
    cause: issues,
  })
}

function failed(where: () => string, error: unknown): SseError {
  const text = error instanceof Error ? error.message : describeValue(error)
  return new SseError('SSE_INVALID_DATA', `${where()}the schema failed: ${text}`, { cause: error })
}

function issueText(issue: SchemaIssue | null): string {
  const place = (issue?.path ?? []).map((part) => String(typeof part === 'object' ? part?.key : part)).join('.')
  const message = String(issue?.message)
  return place === '' ? message : `${place}: ${message}`
}

function listOf(names: readonly string[]): string {
  return names.length === 0 ? 'none' : names.join(', ')
}

function checkMap<T extends object>(name: string, value: T): T {
  if (typeof value === 'object' && value !== null && !Array.isArray(value) && !('~standard' in value)) return value
  throw new TypeError(`${name} must be an object, schemas: { channel: { event: schema } }, got ${describeValue(value)}`)
}

function checkSchema(name: string, value: unknown): StandardSchema {
  const standard: unknown = isObject(value) ? value['~standard'] : undefined
  if (isObject(standard) && standard['version'] === 1 && typeof standard['validate'] === 'function') return value as StandardSchema
  throw new TypeError(`${name} must be a Standard Schema (version 1), got ${describeValue(value)}`)
}

/** Some vendors' schemas are functions. */
function isObject(value: unknown): value is Record<string, unknown> {
  return (typeof value === 'object' && value !== null) || typeof value === 'function'
}
