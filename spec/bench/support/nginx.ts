import type { ChildProcess } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../../support/free-port.ts'
import { compiled } from './compiled.ts'
import { withChildren } from './cpu.ts'
import { spawnTracked } from './worker.ts'

const NGINX = '/usr/sbin/nginx'
const MODULE = '/usr/lib/nginx/modules/ngx_nchan_module.so'

/** Whether nginx and its module nchan are here: in Debian, the packages `nginx` and `libnginx-mod-nchan`. */
export function hasNchan(): boolean {
  return existsSync(NGINX) && existsSync(MODULE)
}

/** An nginx of the bench's own with one worker, whose files are in the folder of what was compiled. */
export class Nginx {
  readonly port: number
  readonly #folder: string
  readonly #master: ChildProcess

  private constructor(port: number, folder: string, master: ChildProcess) {
    this.port = port
    this.#folder = folder
    this.#master = master
  }

  static async start(): Promise<Nginx> {
    const folder = mkdtempSync(path.join(compiled(), 'nginx-'))
    // Where root runs the bench, the worker is another user.
    chmodSync(folder, 0o777)
    const port = await freePort()
    const file = path.join(folder, 'nginx.conf')
    writeFileSync(file, configuration(folder, port))
    const nginx = new Nginx(
      port,
      folder,
      spawnTracked(NGINX, ['-c', file, '-p', folder, '-e', path.join(folder, 'error.log')], { ipc: false, endBy: 'SIGTERM' }),
    )
    for (let attempt = 0; !(await answers(port)); attempt++) {
      if (attempt === 100) throw new Error('nginx does not listen')
      await sleep(20)
    }
    return nginx
  }

  /** The master and its worker. */
  pids(): number[] {
    return withChildren(this.#master.pid ?? 0)
  }

  async stop(): Promise<void> {
    if (this.#master.exitCode === null && this.#master.signalCode === null) {
      const over = new Promise((resolve) => this.#master.once('exit', resolve))
      // Without waiting for connections; killed, the master would leave its worker behind.
      this.#master.kill('SIGTERM')
      await over
    }
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

function configuration(folder: string, port: number): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((each) => `  ${each}_temp_path ${folder}/${each};`)
  return `load_module ${MODULE};
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log error;
events { worker_connections 19000; }
http {
  access_log off;
${temporary.join('\n')}
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  nchan_shared_memory_size 128M;
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location = /publish {
      nchan_publisher http;
      nchan_channel_id bench;
      nchan_message_buffer_length 1000;
      nchan_message_timeout 5m;
      client_body_buffer_size 64k;
    }
    location = /events {
      nchan_subscriber eventsource;
      nchan_channel_id bench;
      nchan_subscriber_first_message newest;
    }
  }
}
`
}

async function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
