/** Actions of a process of the bench, by the name of the order. */
export type Orders = Record<string, (input: never) => unknown>

interface OrderMessage {
  readonly number: number
  readonly name: string
  readonly input: unknown
}

export type AnswerMessage = { readonly number: number; readonly result: unknown } | { readonly number: number; readonly error: string }

/** Executes the orders of the parent process until that ends. */
export function obey(orders: Orders): void {
  process.on('message', ({ number, name, input }: OrderMessage) => {
    void answer(number, async () => orders[name]?.(input as never))
  })
  process.on('disconnect', () => process.exit())
  process.send?.({ number: 0, result: 'ready' } satisfies AnswerMessage)
}

async function answer(number: number, action: () => unknown): Promise<void> {
  let message: AnswerMessage
  try {
    message = { number, result: await action() }
  } catch (error) {
    message = { number, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }
  }
  process.send?.(message)
}
