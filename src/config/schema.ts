import * as z from 'zod/mini';
import { logDrivers } from '../lib/log-options.ts';
import {
  absolute,
  cgroupPath,
  choice,
  host,
  label,
  logOptions,
  mirror,
  proxy,
  registryHost,
  runtime,
  sizeFrom,
  text,
  texts,
  toggle,
  whole,
} from './checks.ts';
import { containerKeys } from './container-keys.ts';
import { keyFacts } from './key-facts.ts';
import { networkKeys } from './network-keys.ts';

/** The versions of the Engine API that the daemon can claim to be at most. */
export const ceilings = ['1.39', '1.40', '1.41', '1.42', '1.43', '1.44', '1.45'] as const;

/** Where the API is served unless something else is said; what `unix://` alone means. */
export const defaultHost = 'unix:///run/skerry.sock';

/** Every key, by the heading it stands under in the help and the reference page. */
export const sections = {
  Serving: {
    hosts: z._default(texts('addresses', host), [defaultHost]).register(keyFacts, {
      flag: 'host',
      short: 'H',
      takes: 'values',
      argument: 'ADDRESS',
      about: 'Where to serve the API: unix:///path, or fd:// for the sockets that systemd hands over',
    }),
    group: z.optional(text('a group')).register(keyFacts, {
      flag: 'group',
      short: 'G',
      takes: 'value',
      argument: 'GROUP',
      fallback: 'root alone',
      about: 'Group that may use the unix sockets, by name or number; its members are as good as root',
    }),
    pidfile: z.optional(text('a path').check(absolute)).register(keyFacts, {
      flag: 'pidfile',
      short: 'p',
      takes: 'value',
      argument: 'PATH',
      fallback: 'skerryd.pid in exec-root',
      about: "File that holds the daemon's process ID",
    }),
    'log-level': z._default(choice('debug', 'info', 'warn', 'error', 'fatal'), 'info').register(keyFacts, {
      flag: 'log-level',
      short: 'l',
      takes: 'value',
      argument: 'LEVEL',
      about: 'Least level that is logged: debug, info, warn, error or fatal',
    }),
    debug: z._default(toggle, false).register(keyFacts, {
      flag: 'debug',
      short: 'D',
      takes: 'switch',
      about: 'The same as log-level debug',
    }),
    labels: z._default(texts('labels', label), []).register(keyFacts, {
      flag: 'label',
      takes: 'values',
      argument: 'KEY=VALUE',
      about: 'Label of this engine, shown by docker info',
    }),
    'shutdown-timeout': z._default(whole(0, 3600), 15).register(keyFacts, {
      flag: 'shutdown-timeout',
      takes: 'value',
      argument: 'SECONDS',
      unit: 'seconds',
      about: 'How long requests under way may take to finish when the daemon is told to stop',
    }),
    'api-version-ceiling': z._default(choice(...ceilings), '1.45').register(keyFacts, {
      flag: 'api-version-ceiling',
      takes: 'value',
      argument: 'VERSION',
      about:
        'Engine API version to present, 1.39 to 1.45; the daemon then behaves as an engine of that generation',
    }),
    'api-version-floor': z
      ._default(text('a version').check(z.regex(/^1\.\d{1,2}$/, 'must be a version, such as "1.24"')), '1.24')
      .register(keyFacts, {
        flag: 'api-version-floor',
        takes: 'value',
        argument: 'VERSION',
        about:
          'Oldest Engine API version that a client may ask for, from 1.12 up to the ceiling; DOCKER_MIN_API_VERSION in the environment sets it too',
      }),
    'supervisor-compat': z._default(toggle, false).register(keyFacts, {
      flag: 'supervisor-compat',
      takes: 'switch',
      about: 'Name the engine in GET /version as balena-style supervisors expect it',
    }),
  },
  'Disk and board': {
    'data-root': z._default(text('a path').check(absolute), '/var/lib/skerry').register(keyFacts, {
      flag: 'data-root',
      takes: 'value',
      argument: 'PATH',
      about: 'Directory of images, containers and volumes',
    }),
    'exec-root': z._default(text('a path').check(absolute), '/run/skerry').register(keyFacts, {
      flag: 'exec-root',
      takes: 'value',
      argument: 'PATH',
      about: 'Directory of what need not outlive a boot; on a tmpfs',
    }),
    'storage-driver': z._default(choice('overlay2'), 'overlay2').register(keyFacts, {
      flag: 'storage-driver',
      short: 's',
      takes: 'value',
      argument: 'NAME',
      about: 'How layers are stacked; overlay2 is the only one',
    }),
    board: z.optional(text('a board')).register(keyFacts, {
      flag: 'board',
      takes: 'value',
      argument: 'NAME',
      fallback: 'what the machine is found to be',
      about: 'Board profile: a name from `skerry board list`, or the path of a profile of your own',
    }),
  },
  'Images and registries': {
    'registry-mirrors': z._default(texts('URLs', mirror), []).register(keyFacts, {
      flag: 'registry-mirror',
      takes: 'values',
      argument: 'URL',
      about: 'Mirror to try before Docker Hub',
    }),
    'insecure-registries': z._default(texts('registries', registryHost), []).register(keyFacts, {
      flag: 'insecure-registry',
      takes: 'values',
      argument: 'HOST',
      about:
        'Registry that may be reached over plain HTTP or with a certificate that nobody vouches for: HOST, HOST:PORT or a network; 127.0.0.0/8 always is one',
    }),
    'registry-certs': z._default(text('a path').check(absolute), '/etc/skerry/certs.d').register(keyFacts, {
      flag: 'registry-certs',
      takes: 'value',
      argument: 'PATH',
      about:
        'Directory with a directory HOST or HOST:PORT for each registry that has certificates of its own: *.crt are authorities, *.cert with *.key are what we show; /etc/docker/certs.d is read as well',
    }),
    'http-proxy': z.optional(text('a URL').check(proxy)).register(keyFacts, {
      flag: 'http-proxy',
      takes: 'value',
      argument: 'URL',
      fallback: 'HTTP_PROXY of the environment',
      about:
        'Proxy to registries without TLS; in the file this and the two below stand in the object "proxies"',
    }),
    'https-proxy': z.optional(text('a URL').check(proxy)).register(keyFacts, {
      flag: 'https-proxy',
      takes: 'value',
      argument: 'URL',
      fallback: 'HTTPS_PROXY of the environment',
      about: 'Proxy to registries behind TLS; http:// or https://, with USER:PASSWORD@ if it wants that',
    }),
    'no-proxy': z.optional(text('a list')).register(keyFacts, {
      flag: 'no-proxy',
      takes: 'value',
      argument: 'HOSTS',
      fallback: 'NO_PROXY of the environment',
      about:
        'Hosts that are reached without a proxy, separated by commas: domains with all that is below them, addresses, networks, each with a :PORT if it is for that alone, or *; this machine always is one',
    }),
    'max-concurrent-downloads': z.optional(whole(1, 32)).register(keyFacts, {
      flag: 'max-concurrent-downloads',
      takes: 'value',
      argument: 'NUMBER',
      fallback: "the board's parallel downloads",
      about: 'Layers that one pull fetches at the same time',
    }),
    'max-concurrent-uploads': z.optional(whole(1, 32)).register(keyFacts, {
      flag: 'max-concurrent-uploads',
      takes: 'value',
      argument: 'NUMBER',
      fallback: "5, or the board's parallel downloads if they are fewer",
      about: 'Layers that are pushed at the same time; each takes about 0.5 MB while it is packed',
    }),
    'max-download-attempts': z._default(whole(1, 100), 5).register(keyFacts, {
      flag: 'max-download-attempts',
      takes: 'value',
      argument: 'NUMBER',
      about: 'Tries for each layer before the pull fails',
    }),
    'delta-mode': z._default(choice('auto', 'require', 'off'), 'auto').register(keyFacts, {
      flag: 'delta-mode',
      takes: 'value',
      argument: 'MODE',
      about:
        'Whether pulls use deltas: auto if the registry has one, require to fail where none serves, off; X-Delta-Mode on a pull says otherwise',
    }),
    'delta-min-saving': z._default(whole(0, 99), 10).register(keyFacts, {
      flag: 'delta-min-saving',
      takes: 'value',
      argument: 'PERCENT',
      unit: 'percent',
      about: 'The least that a delta must save of what a full pull would fetch',
    }),
    'delta-data-root': z.optional(text('a path').check(absolute)).register(keyFacts, {
      flag: 'delta-data-root',
      takes: 'value',
      argument: 'PATH',
      fallback: 'none',
      about:
        'Data root of another engine, that does not run, whose images may serve as bases of deltas besides our own: it is only read, and may be missing',
    }),
    'pull-lease-seconds': z._default(whole(1, 30 * 86_400), 86_400).register(keyFacts, {
      flag: 'pull-lease-seconds',
      takes: 'value',
      argument: 'SECONDS',
      unit: 'seconds',
      about: 'How long the finished layers of a pull that died wait for the next try',
    }),
    'keep-generations': z._default(whole(0, 100), 1).register(keyFacts, {
      flag: 'keep-generations',
      takes: 'value',
      argument: 'NUMBER',
      unit: 'images',
      about: 'How many images each tag keeps, besides the one that it stands for, to be rolled back to',
    }),
    'pull-spool-above': z.optional(text('a size').check(sizeFrom('1m'))).register(keyFacts, {
      flag: 'pull-spool-above',
      takes: 'value',
      argument: 'SIZE',
      fallback: 'never',
      about:
        'Keep the compressed bytes of larger layers on disk while they are fetched (such as 64m), so that a restart of the daemon does not begin them anew; each of these bytes is written to the flash once more',
    }),
  },
  Containers: {
    'default-runtime': z._default(text('a name'), 'crun').register(keyFacts, {
      flag: 'default-runtime',
      takes: 'value',
      argument: 'NAME',
      about: 'OCI runtime of containers that name none; where crun cannot work, runc takes its place',
    }),
    runtimes: z
      ._default(z.record(z.string(), runtime, { error: 'must be an object of runtimes' }), {})
      .register(keyFacts, {
        flag: 'add-runtime',
        takes: 'values',
        entryOf: (path) => ({ path }),
        argument: 'NAME=PATH',
        fallback: 'crun and runc',
        about:
          'Another OCI runtime; in the file {"NAME": {"path": "PATH", "runtimeArgs": []}}. Flag and file add up',
      }),
    'cgroup-parent': z._default(text('a path').check(cgroupPath), '/skerry').register(keyFacts, {
      flag: 'cgroup-parent',
      takes: 'value',
      argument: 'PATH',
      about: 'Control group that containers which name none are put under',
    }),
    ...containerKeys,
    'log-driver': z._default(choice(...logDrivers), 'json-file').register(keyFacts, {
      flag: 'log-driver',
      takes: 'value',
      argument: 'NAME',
      about: 'Where the output of containers goes that name no driver: json-file, local, journald or none',
    }),
    'log-opts': z._default(logOptions, {}).register(keyFacts, {
      flag: 'log-opt',
      takes: 'values',
      entryOf: (value) => value,
      argument: 'NAME=VALUE',
      fallback: "the board's log limits",
      about:
        'Options of that driver, such as max-size=10m and max-file=3, for containers that do not say otherwise',
    }),
  },
  Network: {
    ...networkKeys,
  },
} as const;

/** `daemon.json` as a whole, and the flags merged into it. Unknown keys are refused. */
export const daemonSchema = z.strictObject({
  ...sections.Serving,
  ...sections['Disk and board'],
  ...sections['Images and registries'],
  ...sections.Containers,
  ...sections.Network,
});

export type DaemonKeys = z.output<typeof daemonSchema>;
export type KeyName = keyof DaemonKeys;
