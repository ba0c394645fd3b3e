import { SseError, describeValue, publishPrefix } from '../basics/errors.ts'
import { isThenable } from '../basics/promises.ts'
import { checkChannelName, checkEventName } from '../basics/names.ts'

/** A reason for which a schema refuses a payload. */
export interface SchemaIssue {
  readonly message: string
  /** Path to the value in the payload, outermost part first. Each part is a name or index, or an object with one as its `key`. */
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined
}

/** A schema that implements Standard Schema, version 1 (https://standardschema.dev), as those of zod, valibot and arktype do. */
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
 * A schema for each event of each channel. A channel name that ends with `*` stands for all channels that begin with the text
 * before the `*`: `'user:*'` is the family `user:${string}`. If several names match a channel, the longest one applies.
 */
export type HubSchemas = Readonly<Record<string, Readonly<Record<string, StandardSchema>>>>

type NameOf<N> = N extends `${infer Prefix}*` ? `${Prefix}${string}` : N

/** The channels that schemas describe, with the payloads that subscribers receive: the output types of the schemas. */
export type SchemaChannels<S extends HubSchemas> = {
  [N in keyof S as NameOf<N>]: { [E in keyof S[N]]: SchemaTypes<S[N][E]>['output'] }
}

/** The channels that schemas describe, with the payloads that `publish` takes: the input types of the schemas. */
export type SchemaInputs<S extends HubSchemas> = {
  [N in keyof S as NameOf<N>]: { [E in keyof S[N]]: SchemaTypes<S[N][E]>['input'] }
}

type SchemaTypes<S> = S extends StandardSchema ? NonNullable<S['~standard']['types']> : never

/** The schemas of a hub, found by channel and event. */
export class Schemas {
  readonly #exact = new Map<string, Map<string, StandardSchema>>()
  /** Families of channels by their prefix, longest prefix first. */
  readonly #families: (readonly [prefix: string, events: Map<string, StandardSchema>])[] = []

  /**
   * @throws {TypeError} if a value is not a Standard Schema.
   * @throws {SseError} `SSE_INVALID_CHANNEL` or `SSE_INVALID_EVENT` if a name is invalid.
   */
  constructor(schemas: HubSchemas) {
    for (const [channel, events] of Object.entries(checkMap('Hub: schemas', schemas))) {
      checkChannelName('Hub: schemas', channel)
      if (channel.slice(0, -1).includes('*')) {
        throw new SseError(
          'SSE_INVALID_CHANNEL',
          `Hub: schemas: a * may only be the last character of a name, got ${describeValue(channel)}`,
        )
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
   * Validates a payload and returns the output of the schema, which replaces the payload. Returns a promise only if the schema
   * is asynchronous.
   *
   * @throws {SseError} `SSE_INVALID_CHANNEL` or `SSE_INVALID_EVENT` if there is no schema for the event. `SSE_INVALID_DATA` if
   *   the schema refuses the payload; its `cause` is the list of issues.
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
        `publish: the schemas have no event ${describeValue(event)} in channel ${describeValue(channel)}; ` +
          `it has ${listOf([...events.keys()])}`,
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
  const path = (issue?.path ?? []).map((part) => String(typeof part === 'object' ? part?.key : part)).join('.')
  const message = String(issue?.message)
  return path === '' ? message : `${path}: ${message}`
}

function listOf(names: readonly string[]): string {
  return names.length === 0 ? 'none' : names.join(', ')
}

function checkMap<T extends object>(name: string, value: T): T {
  if (typeof value === 'object' && value !== null && !Array.isArray(value) && !('~standard' in value)) return value
  throw new TypeError(`${name} must be an object, as in schemas: { channel: { event: schema } }, got ${describeValue(value)}`)
}

function checkSchema(name: string, value: unknown): StandardSchema {
  const standard: unknown = isObject(value) ? value['~standard'] : undefined
  if (isObject(standard) && standard['version'] === 1 && typeof standard['validate'] === 'function') return value as StandardSchema
  throw new TypeError(`${name} must be a Standard Schema (version 1), got ${describeValue(value)}`)
}

/** Whether a value has properties. Functions count, because the schemas of some vendors are functions. */
function isObject(value: unknown): value is Record<string, unknown> {
  return (typeof value === 'object' && value !== null) || typeof value === 'function'
}
