import { spawnSync } from 'node:child_process'
import net from 'node:net'

/** Runs once before all suites, and finds out which of the suites that need Redis can run. */
export default async function setUp(): Promise<void> {
  const url = new URL(process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379')
  process.env['REDIS_URL'] = url.href
  const missing: string[] = []
  const hasRedis = await answers(url.hostname, Number(url.port || 6_379))
  if (!hasRedis) missing.push(`there is no Redis at ${url.host}: the suites that need it are skipped`)
  if (spawnSync('redis-server', ['--version']).status !== 0) {
    missing.push('redis-server is not installed: the suites of failures are skipped')
  }
  process.env['MISSING_REDIS'] = missing.join('; ')
  if (missing.length === 0) return
  if (process.env['CI'] === 'true') throw new Error(missing.join('; '))
  console.log(missing.join('; '))
}

async function answers(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, host, () => socket.write('PING\r\n'))
    socket.setTimeout(2_000, () => socket.destroy())
    socket.once('data', (data) => {
      resolve(data.toString().startsWith('+PONG'))
      socket.destroy()
    })
    socket.once('error', () => resolve(false))
    socket.once('close', () => resolve(false))
  })
}
