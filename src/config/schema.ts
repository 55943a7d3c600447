import { isIP } from 'node:net';
import * as z from 'zod/mini';
import type { Option } from '../lib/arguments.ts';
import { parseSize } from './sizes.ts';

/** What the help and the reference page say of a key; what the parser needs to know of its flag. */
export interface KeyFacts extends Omit<Option, 'name'> {
  /** The flag, without dashes; dockerd's singular where the key is a list. */
  readonly flag: string;
  /** Of flags that take `NAME=VALUE` and become an object: what VALUE stands for. */
  readonly entryOf?: (value: string) => unknown;
  readonly unit?: string;
  /** Where the default is no constant: what it follows from. */
  readonly fallback?: string;
}

/** The facts of each key's schema. */
export const keyFacts = z.registry<KeyFacts>();

const text = (what: string) => z.string({ error: `must be ${what}, as a text` });
const texts = (what: string, ...checks: z.core.CheckFn<string>[]) =>
  z.array(text(what).check(...checks), { error: `must be a list of ${what}` });
const toggle = z.boolean({ error: 'must be true or false' });
const whole = (from: number, to: number) => {
  const error = `must be a whole number from ${from} to ${to}`;
  return z.int({ error }).check(z.minimum(from, { error }), z.maximum(to, { error }));
};
const choice = <const T extends readonly [string, ...string[]]>(...values: T) =>
  z.enum(values, { error: `must be one of ${values.join(', ')}` });

/** A check on a text that says what is wrong with it, or nothing. */
const says =
  (complain: (value: string) => string | undefined): z.core.CheckFn<string> =>
  (payload) => {
    const message = complain(payload.value);
    if (message !== undefined) payload.issues.push({ code: 'custom', message, input: payload.value });
  };

const absolute = says((path) => (path.startsWith('/') ? undefined : 'must be an absolute path'));
const address = says((value) => (isIP(value) > 0 ? undefined : 'must be an IP address'));
const ipv4Network = says((value) =>
  isNetwork(value, 4) ? undefined : 'must be an IPv4 address and prefix length, such as 172.17.0.1/16',
);
const interfaceName = says((value) =>
  /^[a-zA-Z0-9_.-]{1,15}$/.test(value) && value !== 'none'
    ? undefined
    : 'must be the name of a network interface: up to 15 letters, digits, "_", "." and "-"',
);
const label = says((value) => (/^[^=]+=/.test(value) ? undefined : 'must have the form KEY=VALUE'));

const host = says((value) => {
  if (value.startsWith('tcp://')) return 'tcp:// is not offered without mutual TLS: use unix:// or fd://';
  if (value === 'fd://' || value === 'fd://*' || value === 'unix://') return undefined;
  if (!/^unix:\/\/\/./.test(value)) return 'must be unix:///absolute/path or fd://';
  // sun_path holds 108 bytes, the closing zero included
  return Buffer.byteLength(value.slice(7)) > 107 ? 'must be a path of at most 107 bytes' : undefined;
});

const registryHost = says((value) => {
  if (value.includes('://')) return 'must be a host or a network, without a scheme';
  if (isNetwork(value)) return undefined;
  return /^([a-zA-Z0-9._-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?$/.test(value)
    ? undefined
    : 'must be HOST, HOST:PORT or ADDRESS/PREFIX';
});

const mirror = says((value) => {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) return 'must be an http:// or https:// URL';
  if (url.username !== '' || url.password !== '') return 'must not carry a user name or password';
  return url.pathname !== '/' || url.search !== '' || url.hash !== ''
    ? 'must not have a path, query or fragment'
    : undefined;
});

const runtime = z.strictObject(
  {
    path: text('the path of an OCI runtime').check(z.minLength(1)),
    runtimeArgs: z.optional(texts('arguments')),
  },
  { error: 'must be an object with "path" and optionally "runtimeArgs"' },
);

const logOptions = z.strictObject(
  {
    'max-size': z.optional(
      text('a size').check(
        says((value) =>
          (parseSize(value) ?? 0) >= 16384 ? undefined : 'must be a size of at least 16k, such as 10m',
        ),
      ),
    ),
    'max-file': z.optional(
      text('a number').check(
        says((value) => (/^[1-9]\d{0,2}$/.test(value) ? undefined : 'must be a number from 1 to 999')),
      ),
    ),
  },
  { error: 'must be an object of texts' },
);

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
    'max-concurrent-downloads': z.optional(whole(1, 32)).register(keyFacts, {
      flag: 'max-concurrent-downloads',
      takes: 'value',
      argument: 'NUMBER',
      fallback: "the board's parallel downloads",
      about: 'Layers that one pull fetches at the same time',
    }),
    'max-download-attempts': z._default(whole(1, 100), 5).register(keyFacts, {
      flag: 'max-download-attempts',
      takes: 'value',
      argument: 'NUMBER',
      about: 'Tries for each layer before the pull fails',
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
    'log-driver': z._default(choice('json-file'), 'json-file').register(keyFacts, {
      flag: 'log-driver',
      takes: 'value',
      argument: 'NAME',
      about: 'Where the output of containers goes; json-file is the only driver',
    }),
    'log-opts': z._default(logOptions, {}).register(keyFacts, {
      flag: 'log-opt',
      takes: 'values',
      entryOf: (value) => value,
      argument: 'NAME=VALUE',
      fallback: "the board's log limits",
      about: "max-size (such as 10m) and max-file of each container's log",
    }),
  },
  Network: {
    bridge: z._default(text('a name').check(interfaceName), 'skerry0').register(keyFacts, {
      flag: 'bridge',
      short: 'b',
      takes: 'value',
      argument: 'NAME',
      about: 'Interface of the default bridge network',
    }),
    bip: z.optional(text('a network').check(ipv4Network)).register(keyFacts, {
      flag: 'bip',
      takes: 'value',
      argument: 'ADDRESS/PREFIX',
      fallback: 'the first private network that is free',
      about: "The bridge's own address and its network",
    }),
    'fixed-cidr': z.optional(text('a network').check(ipv4Network)).register(keyFacts, {
      flag: 'fixed-cidr',
      takes: 'value',
      argument: 'ADDRESS/PREFIX',
      fallback: "the bridge's whole network",
      about: "Part of the bridge's network that containers get addresses from",
    }),
    mtu: z._default(whole(68, 65535), 1500).register(keyFacts, {
      flag: 'mtu',
      takes: 'value',
      argument: 'BYTES',
      unit: 'bytes',
      about: "Largest packet on containers' interfaces",
    }),
    icc: z._default(toggle, true).register(keyFacts, {
      flag: 'icc',
      takes: 'switch',
      about: 'Containers on the default bridge may talk to each other',
    }),
    'ip-masq': z._default(toggle, true).register(keyFacts, {
      flag: 'ip-masq',
      takes: 'switch',
      about: "Containers reach other hosts under this host's address",
    }),
    'ip-forward': z._default(toggle, true).register(keyFacts, {
      flag: 'ip-forward',
      takes: 'switch',
      about: 'Turn net.ipv4.ip_forward on',
    }),
    dns: z._default(texts('addresses', address), []).register(keyFacts, {
      flag: 'dns',
      takes: 'values',
      argument: 'ADDRESS',
      fallback: "the host's",
      about: 'Name server for containers',
    }),
    'dns-search': z._default(texts('domains'), []).register(keyFacts, {
      flag: 'dns-search',
      takes: 'values',
      argument: 'DOMAIN',
      fallback: "the host's",
      about: 'Search domain for containers',
    }),
    'dns-opts': z._default(texts('options'), []).register(keyFacts, {
      flag: 'dns-opt',
      takes: 'values',
      argument: 'OPTION',
      fallback: "the host's",
      about: 'Resolver option for containers, such as ndots:1',
    }),
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

/** True for `10.0.0.0/8`, or `fd00::/8` where IPv6 will do. */
function isNetwork(value: string, family?: 4): boolean {
  const [base = '', prefix = '', more] = value.split('/');
  const version = isIP(base);
  if (version === 0 || more !== undefined || !/^\d{1,3}$/.test(prefix)) return false;
  return Number(prefix) <= (version === 4 ? 32 : 128) && (family === undefined || family === version);
}
