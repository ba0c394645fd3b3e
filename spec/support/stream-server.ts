import type { AddressInfo } from 'node:net'
import express from 'express'
import { sseMiddleware } from '../../lib/index.ts'

/** Runs in a process of its own, prints its URL, and serves a stream that never ends. */
const app = express()
app.use(sseMiddleware())
app.get('/', (_req, res) => void res.sse.send('first'))
const server = app.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`))
