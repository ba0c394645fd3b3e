import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { until } from './client.ts'
import { freePort } from './free-port.ts'

export const NGINX = '/usr/sbin/nginx'

/** Returns true if nginx is installed, and otherwise warns that the tests are skipped. */
export function hasNginx(what: string): boolean {
  const isThere = existsSync(NGINX) || process.env['CI'] === 'true'
  if (!isThere) console.warn(`${what} are skipped: there is no ${NGINX}`)
  return isThere
}

export interface NginxOptions {
  /** Directives of the `server` block. */
  readonly server: string
  /** Directives before all blocks. */
  readonly main?: string
  /** Directives of the `http` block. */
  readonly http?: string
  /** Number of pending connections that the kernel queues. */
  readonly backlog?: number
  /** Limit of a worker's connections. */
  readonly connections?: number
  /** Folder for the folder of this nginx. */
  readonly parent?: string
  readonly start?: (command: string, args: readonly string[]) => ChildProcess
}

/** An nginx with one worker, which keeps its files in a folder of its own. */
export class Nginx {
  readonly port: number
  readonly url: string
  readonly #folder: string
  readonly #master: ChildProcess

  private constructor(port: number, folder: string, master: ChildProcess) {
    this.port = port
    this.url = `http://127.0.0.1:${port}`
    this.#folder = folder
    this.#master = master
  }

  static async start(options: NginxOptions): Promise<Nginx> {
    const { parent = tmpdir(), start = (command, args) => spawn(command, args, { stdio: 'inherit' }) } = options
    const folder = mkdtempSync(path.join(parent, 'express-sse-hub-nginx-'))
    // If root starts nginx, the worker runs as another user.
    chmodSync(folder, 0o777)
    const port = await freePort()
    const file = path.join(folder, 'nginx.conf')
    writeFileSync(file, configuration(folder, port, options))
    const nginx = new Nginx(port, folder, start(NGINX, ['-c', file, '-p', folder, '-e', path.join(folder, 'error.log')]))
    let isListening = false
    const tryConnect = (): void => {
      const socket = net.connect(port, '127.0.0.1')
      socket.once('error', () => setTimeout(tryConnect, 5))
      socket.once('connect', () => {
        isListening = true
        socket.destroy()
      })
    }
    tryConnect()
    await until(() => isListening, 'nginx listens')
    return nginx
  }

  /** Process id of the master. */
  get pid(): number {
    return this.#master.pid ?? 0
  }

  async stop(): Promise<void> {
    if (this.#master.exitCode === null && this.#master.signalCode === null) {
      const exited = once(this.#master, 'exit')
      // SIGTERM does not wait for connections. A killed master would leave its worker running.
      this.#master.kill('SIGTERM')
      await exited
    }
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** Locations of an nginx in front of a server: `/default/` with nginx's defaults, `/http1.1/` with HTTP/1.1 to the server. */
export function proxyTo(upstream: number): string {
  return `location /default/ { proxy_pass http://127.0.0.1:${upstream}/; }
    location /http1.1/ { proxy_pass http://127.0.0.1:${upstream}/; proxy_http_version 1.1; proxy_set_header Connection ''; }`
}

function configuration(folder: string, port: number, { main = '', http = '', server, connections = 100, backlog }: NginxOptions): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((each) => `  ${each}_temp_path ${folder}/${each};`)
  return `${main}
daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log error;
events { worker_connections ${connections}; }
http {
  access_log off;
${temporary.join('\n')}
  ${http}
  server {
    listen 127.0.0.1:${port}${backlog === undefined ? '' : ` backlog=${backlog}`};
    ${server}
  }
}
`
}
