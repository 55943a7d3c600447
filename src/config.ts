import { join } from 'node:path';
import { type BoardProfile, detectBoard, findBoard, type Machine } from './config/boards.ts';
import { readMachine } from './config/machine.ts';
import { allOptions, helpText } from './config/options.ts';
import { type Release, release } from './config/release.ts';
import { type DaemonKeys, defaultHost } from './config/schema.ts';
import { parseSize } from './config/sizes.ts';
import { type Environment, gatherKeys } from './config/sources.ts';
import { Failure, fail, messageOf } from './errors.ts';
import { parseArguments } from './lib/arguments.ts';
import { logConfigComplaint, logLimitsOf } from './lib/log-options.ts';
import type { ProxySettings } from './lib/proxy-address.ts';

/** Where devices that ran dockerd have certificates already. */
const dockerCertificates = '/etc/docker/certs.d';

/** How the daemon is to run: flags, configuration file and board in one. Frozen; each part is handed its own values. */
export interface Config {
  /** `unix:///path` or `fd://`. */
  readonly hosts: string[];
  /** Group of the unix sockets; undefined leaves them to root. */
  readonly group: string | undefined;
  readonly pidfile: string;
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error' | 'fatal';
  /** `KEY=VALUE`. */
  readonly labels: string[];
  readonly shutdownTimeoutMs: number;
  readonly apiVersionCeiling: DaemonKeys['api-version-ceiling'];
  readonly apiVersionFloor: string;
  readonly supervisorCompat: boolean;
  readonly deltas: { readonly mode: 'auto' | 'require' | 'off'; readonly minSaving: number };
  /** Where images lie that only serve as bases of deltas. */
  readonly deltaDataRoot: string | undefined;
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly board: BoardProfile;
  /** Why this board: what was detected, or that it was named. */
  readonly boardReason: string;
  /** `http://` or `https://` and the host, without a path. */
  readonly registryMirrors: string[];
  readonly insecureRegistries: string[];
  /** Of the configuration, else of the environment, unchecked then; empty for none. */
  readonly proxies: ProxySettings;
  /** Directories with certificates of registries. */
  readonly certificates: string[];
  readonly maxConcurrentDownloads: number;
  readonly maxConcurrentUploads: number;
  readonly maxDownloadAttempts: number;
  readonly pullLeaseMs: number;
  readonly keepGenerations: number;
  /** Undefined: nothing is spooled. */
  readonly pullSpoolAboveBytes: number | undefined;
  /** A key of `runtimes`. */
  readonly defaultRuntime: string;
  /** crun and runc among them. */
  readonly runtimes: Record<string, { path: string; args: string[] }>;
  /** Empty: the runtime's own. */
  readonly cgroupParent: string;
  /** Whether containers get an init process, and which; the engine knows where to look for one. */
  readonly init: boolean;
  readonly initPath: string | undefined;
  readonly experimental: boolean;
  readonly noNewPrivileges: boolean;
  readonly shmBytes: number;
  readonly ipcMode: 'private' | 'shareable';
  /** What the cgroup version asks for, if undefined. */
  readonly cgroupnsMode: 'host' | 'private' | undefined;
  /** Of containers that do not say, by name; -1 is no limit. */
  readonly ulimits: readonly { readonly name: string; readonly soft: number; readonly hard: number }[];
  /** `builtin`, `unconfined` or the path of a profile. */
  readonly seccompProfile: string;
  readonly cdiDirectories: readonly string[];
  /** How containers log that ask for nothing else; the bounds are the board's, for a json-file log without options. */
  readonly logs: {
    readonly driver: DaemonKeys['log-driver'];
    readonly options: DaemonKeys['log-opts'];
    readonly maxBytes: number;
    readonly maxFiles: number;
  };
  /** Name of the default bridge's interface. */
  readonly bridge: string;
  /** The bridge's address and prefix length; undefined lets the network choose. */
  readonly bip: string | undefined;
  readonly fixedCidr: string | undefined;
  readonly defaultGateway: string | undefined;
  /** Of the default bridge. */
  readonly ipv6: boolean;
  readonly bip6: string | undefined;
  readonly fixedCidrV6: string | undefined;
  readonly defaultGatewayV6: string | undefined;
  /** Where networks without a subnet lie; empty for dockerd's list. */
  readonly addressPools: readonly { readonly base: string; readonly size: number }[];
  /** By driver. */
  readonly defaultNetworkOptions: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly mtu: number;
  readonly icc: boolean;
  readonly ipMasq: boolean;
  readonly ipForward: boolean;
  readonly hostGatewayIp: string | undefined;
  readonly dns: string[];
  readonly dnsSearch: string[];
  readonly dnsOptions: string[];
  readonly release: Release;
  /** What the operator should hear at start-up: keys that do nothing here. */
  readonly warnings: string[];
}

/** dockerd's number; a board that downloads less at once has no more to upload with. */
const MOST_UPLOADS = 5;

/** What the command line asks for: to run, or only to print something. An exit code other than 0 goes to stderr. */
export type Invocation =
  | { readonly kind: 'run'; readonly config: Config }
  | { readonly kind: 'print'; readonly text: string; readonly exitCode: number };

/**
 * Reads flags, environment and configuration file. Never throws for what an operator may have written wrongly: that
 * comes back as a text that names it, with exit code 1.
 */
export function loadConfig(
  argv: readonly string[],
  env: Environment,
  { machine = readMachine }: { machine?: () => Machine } = {},
): Invocation {
  try {
    const flags = parseArguments(argv, allOptions());
    if (flags.values.get('help') === true) return print(helpText());
    if (flags.values.get('version') === true) {
      return print(`skerryd version ${release.version}, build ${release.commit}\n`);
    }
    if (flags.rest[0] !== undefined) throw fail.config(`unexpected argument: ${flags.rest[0]}`);
    const { keys, warnings } = gatherKeys(flags, env);
    const config = derive(keys, warnings, machine, env);
    if (flags.values.get('validate') === true) {
      return print(`${config.warnings.map((warning) => `warning: ${warning}\n`).join('')}configuration OK\n`);
    }
    return { kind: 'run', config: freeze(config) };
  } catch (cause) {
    if (!(cause instanceof Failure)) throw cause;
    return print(`skerryd: ${cause.message}\nSee 'skerryd --help'.\n`, 1);
  }
}

function print(text: string, exitCode = 0): Invocation {
  return { kind: 'print', text, exitCode };
}

/** What follows from the keys; and the checks that look at more than one of them. */
function derive(keys: DaemonKeys, warnings: string[], machine: () => Machine, env: Environment): Config {
  const { board, reason } = chooseBoard(keys.board, machine);
  return {
    hosts: [...new Set(keys.hosts.map((host) => (host === 'unix://' ? defaultHost : host)))],
    group: keys.group === '' ? undefined : keys.group,
    pidfile: keys.pidfile ?? join(keys['exec-root'], 'skerryd.pid'),
    logLevel: keys.debug ? 'debug' : keys['log-level'],
    labels: uniqueLabels(keys.labels),
    shutdownTimeoutMs: keys['shutdown-timeout'] * 1000,
    apiVersionCeiling: keys['api-version-ceiling'],
    apiVersionFloor: checkedFloor(keys),
    supervisorCompat: keys['supervisor-compat'],
    deltas: { mode: keys['delta-mode'], minSaving: keys['delta-min-saving'] },
    deltaDataRoot: keys['delta-data-root'],
    dataRoot: keys['data-root'],
    execRoot: keys['exec-root'],
    board,
    boardReason: reason,
    registryMirrors: keys['registry-mirrors'].map((url) => url.replace(/\/$/, '')),
    insecureRegistries: keys['insecure-registries'],
    proxies: proxiesOf(keys, env),
    certificates: [...new Set([keys['registry-certs'], dockerCertificates])],
    maxConcurrentDownloads: keys['max-concurrent-downloads'] ?? board.pull.parallelDownloads,
    maxConcurrentUploads:
      keys['max-concurrent-uploads'] ?? Math.min(MOST_UPLOADS, board.pull.parallelDownloads),
    maxDownloadAttempts: keys['max-download-attempts'],
    pullLeaseMs: keys['pull-lease-seconds'] * 1000,
    keepGenerations: keys['keep-generations'],
    pullSpoolAboveBytes: parseSize(keys['pull-spool-above'] ?? ''),
    ...runtimesOf(keys),
    cgroupParent: keys['cgroup-parent'],
    ...containerDefaultsOf(keys),
    logs: logsOf(keys, board),
    ...bridgeOf(keys),
    mtu: keys.mtu,
    icc: keys.icc,
    ipMasq: keys['ip-masq'],
    ipForward: keys['ip-forward'],
    hostGatewayIp: keys['host-gateway-ip'],
    dns: keys.dns,
    dnsSearch: keys['dns-search'],
    dnsOptions: keys['dns-opts'],
    release,
    warnings,
  };
}

function chooseBoard(
  name: string | undefined,
  machine: () => Machine,
): { board: BoardProfile; reason: string } {
  if (name === undefined) return detectBoard(machine());
  const board = findBoard(name);
  if (board === undefined) throw fail.config(`board: there is no profile "${name}": see skerry board list`);
  return { board, reason: 'named in the configuration' };
}

function runtimesOf(keys: DaemonKeys): Pick<Config, 'runtimes' | 'defaultRuntime'> {
  const runtimes: Config['runtimes'] = {
    crun: { path: 'crun', args: [] },
    runc: { path: 'runc', args: [] },
  };
  for (const [name, { path, runtimeArgs = [] }] of Object.entries(keys.runtimes)) {
    runtimes[name] = { path, args: runtimeArgs };
  }
  const defaultRuntime = keys['default-runtime'];
  if (!Object.hasOwn(runtimes, defaultRuntime)) {
    throw fail.config(`default-runtime: specified default runtime '${defaultRuntime}' does not exist`);
  }
  return { runtimes, defaultRuntime };
}

function containerDefaultsOf(keys: DaemonKeys) {
  return {
    init: keys.init,
    initPath: keys['init-path'] || undefined,
    experimental: keys.experimental,
    noNewPrivileges: keys['no-new-privileges'],
    shmBytes: parseSize(keys['default-shm-size']) ?? 0,
    ipcMode: keys['default-ipc-mode'],
    cgroupnsMode: keys['default-cgroupns-mode'],
    ulimits: Object.entries(keys['default-ulimits']).map(([name, { Soft, Hard }]) => ({
      ...{ name, soft: Soft, hard: Hard },
    })),
    seccompProfile: keys['seccomp-profile'] || 'builtin',
    cdiDirectories: keys['cdi-spec-dirs'],
  };
}

/** The default bridge, and what all networks share. */
function bridgeOf(keys: DaemonKeys) {
  const { bridge, bip, ipv6, bip6 } = keys;
  const pools = keys['default-address-pools'];
  const fixedCidrV6 = keys['fixed-cidr-v6'];
  if (
    ipv6 &&
    fixedCidrV6 === undefined &&
    bip6 === undefined &&
    !pools.some(({ base }) => base.includes(':'))
  )
    throw fail.config(
      'ipv6: IPv6 is enabled for the default bridge, but no subnet is configured. Specify an IPv6 subnet using --fixed-cidr-v6',
    );
  return {
    ...{ bridge, bip, ipv6, bip6, fixedCidrV6 },
    fixedCidr: keys['fixed-cidr'],
    defaultGateway: keys['default-gateway'],
    defaultGatewayV6: keys['default-gateway-v6'],
    addressPools: pools,
    defaultNetworkOptions: keys['default-network-opts'],
  };
}

/** What would fail every container's start is better told now. */
function logsOf(
  { 'log-driver': driver, 'log-opts': options }: DaemonKeys,
  { logs }: BoardProfile,
): Config['logs'] {
  const complaint = logConfigComplaint(driver, options);
  if (complaint !== undefined) throw fail.config(`log-opts: ${complaint}`);
  try {
    logLimitsOf(driver, options, { ...logs, compresses: false });
  } catch (cause) {
    throw fail.config(`log-opts: ${messageOf(cause)}`);
  }
  return { driver, options, ...logs };
}

/** Each by itself, as dockerd has it: what is configured, and otherwise the environment's. */
function proxiesOf(keys: DaemonKeys, env: Environment): ProxySettings {
  const read = (name: string) => env[name] || env[name.toLowerCase()] || '';
  return {
    http: keys['http-proxy'] || read('HTTP_PROXY'),
    https: keys['https-proxy'] || read('HTTPS_PROXY'),
    no: keys['no-proxy'] || read('NO_PROXY'),
  };
}

/** Docker's rule: one key, one value. */
function uniqueLabels(labels: readonly string[]): string[] {
  const byKey = new Map<string, string>();
  for (const label of labels) {
    const key = label.slice(0, label.indexOf('='));
    const other = byKey.get(key);
    if (other !== undefined && other !== label) {
      throw fail.config(`labels: conflict labels for ${key}: ${other} and ${label}`);
    }
    byKey.set(key, label);
  }
  return [...byKey.values()];
}

/** The Engine API of before 1.12 is not what any client asks for that still runs. */
function checkedFloor(keys: DaemonKeys): string {
  const floor = keys['api-version-floor'];
  const ceiling = keys['api-version-ceiling'];
  const minor = Number(floor.slice(2));
  if (minor < 12 || minor > Number(ceiling.slice(2))) {
    throw fail.config(`api-version-floor: must be from 1.12 to the ceiling, ${ceiling} (is ${floor})`);
  }
  return floor;
}

function freeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value;
  for (const each of Object.values(value)) freeze(each);
  return Object.freeze(value);
}
