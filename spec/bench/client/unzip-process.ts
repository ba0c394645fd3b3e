import http, { type IncomingMessage } from 'node:http'
import { createGunzip } from 'node:zlib'
import { setTimeout as sleep } from 'node:timers/promises'
import { obey } from '../support/orders.ts'
import { DIGITS, MARKER, indexOf } from '../support/sequence.ts'

export type UnzipOrders = {
  /** Opens streams, and resolves to the content encoding of their answers. */
  open: (input: { readonly port: number; readonly clients: number }) => Promise<string>
  reach: (input: { readonly published: number }) => Promise<void>
}

const SEQUENCE = new RegExp(`${MARKER}(\\d{${DIGITS}})`, 'g')
const due: number[] = []
let violation = ''

async function open({ port, clients }: { readonly port: number; readonly clients: number }): Promise<string> {
  let encoding = ''
  for (let n = 0; n < clients; n++) {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const headers = { accept: 'text/event-stream', 'accept-encoding': 'gzip' }
      http.get({ port, host: '127.0.0.1', path: '/events', headers, agent: false }, resolve).on('error', reject)
    })
    encoding = response.headers['content-encoding'] ?? ''
    due.push(0)
    const source = encoding === 'gzip' ? response.pipe(createGunzip()) : response
    let text = ''
    source.setEncoding('latin1')
    source.on('error', (error) => (violation ||= error.message))
    source.on('data', (chunk: string) => {
      text += chunk
      let end = 0
      for (const match of text.matchAll(SEQUENCE)) {
        const index = indexOf(Number(match[1]))
        if (index !== due[n]) violation ||= `client ${n} unzipped event ${index} instead of ${due[n]}`
        due[n] = index + 1
        end = match.index + match[0].length
      }
      text = text.slice(Math.max(end, text.length - 100))
    })
  }
  return encoding
}

async function reach({ published }: { readonly published: number }): Promise<void> {
  const end = performance.now() + 30_000
  while (due.some((each) => each < published)) {
    if (violation !== '' || performance.now() > end) break
    await sleep(5)
  }
  if (violation !== '') throw new Error(`VIOLATION: ${violation}`)
  if (due.some((each) => each !== published)) throw new Error(`VIOLATION: clients unzipped ${due.join()} events instead of ${published}`)
}

obey({ open, reach } satisfies UnzipOrders)
