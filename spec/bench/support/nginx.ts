import { existsSync } from 'node:fs'
import { NGINX, Nginx } from '../../support/nginx.ts'
import { compiled } from './compiled.ts'
import { spawnTracked } from './worker.ts'

const MODULE = '/usr/lib/nginx/modules/ngx_nchan_module.so'

/** Returns true if nginx and its module nchan are installed. Their Debian packages are `nginx` and `libnginx-mod-nchan`. */
export function hasNchan(): boolean {
  return existsSync(NGINX) && existsSync(MODULE)
}

/** Starts an nginx with nchan, which keeps its files in the folder of the compiled bench. */
export async function startNchan(): Promise<Nginx> {
  return Nginx.start({
    main: `load_module ${MODULE};\nworker_rlimit_nofile 20000;`,
    http: `keepalive_requests 1000000000;
  keepalive_timeout 1h;
  nchan_shared_memory_size 128M;`,
    server: `location = /publish {
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
    }`,
    connections: 19_000,
    backlog: 4_096,
    parent: compiled(),
    start: (command, args) => spawnTracked(command, args, { ipc: false, endBy: 'SIGTERM' }),
  })
}
