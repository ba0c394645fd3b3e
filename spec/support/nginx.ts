import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { until } from './client.ts'
import { freePort } from './free-port.ts'

const NGINX = '/usr/sbin/nginx'

/** Whether there is an nginx to test with; without one what needs it is skipped, and says so. */
export function hasNginx(what: string): boolean {
  const isThere = existsSync(NGINX) || process.env['CI'] === 'true'
  if (!isThere) console.warn(`${what} are skipped: there is no ${NGINX}`)
  return isThere
}

/** An nginx in front of a server: `/default/` as it is configured by default, `/http1.1/` with HTTP/1.1 towards the server. */
export class Nginx {
  readonly url: string
  readonly #folder: string
  readonly #process: ChildProcess

  private constructor(url: string, folder: string, process: ChildProcess) {
    this.url = url
    this.#folder = folder
    this.#process = process
  }

  static async start(upstream: number): Promise<Nginx> {
    const folder = mkdtempSync(path.join(tmpdir(), 'express-sse-hub-nginx-'))
    // Where root runs the tests, the worker is another user.
    chmodSync(folder, 0o777)
    const port = await freePort()
    const file = path.join(folder, 'nginx.conf')
    writeFileSync(file, configuration(folder, port, upstream))
    const nginx = new Nginx(
      `http://127.0.0.1:${port}`,
      folder,
      spawn(NGINX, ['-c', file, '-p', folder, '-e', path.join(folder, 'error.log')], { stdio: 'inherit' }),
    )
    let isListening = false
    const ask = (): void => {
      const socket = net.connect(port, '127.0.0.1')
      socket.once('connect', () => (isListening = true)).once('error', () => setImmediate(ask))
      socket.once('connect', () => socket.destroy())
    }
    ask()
    await until(() => isListening, 'nginx listens')
    return nginx
  }

  async stop(): Promise<void> {
    const exited = once(this.#process, 'exit')
    // Without waiting for connections; killed, the master would leave its worker behind.
    this.#process.kill('SIGTERM')
    await exited
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

function configuration(folder: string, port: number, upstream: number): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((each) => `  ${each}_temp_path ${folder}/${each};`)
  return `daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log error;
events { worker_connections 100; }
http {
  access_log off;
${temporary.join('\n')}
  server {
    listen 127.0.0.1:${port};
    location /default/ { proxy_pass http://127.0.0.1:${upstream}/; }
    location /http1.1/ { proxy_pass http://127.0.0.1:${upstream}/; proxy_http_version 1.1; proxy_set_header Connection ''; }
  }
}
`
}
