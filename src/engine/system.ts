import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import type { CgroupLimits } from '../host/cgroup-limits.ts';
import {
  architecture,
  cpus,
  hasAppArmor,
  hasSeccomp,
  hostname,
  kernelVersion,
  memoryBytes,
  operatingSystem,
  osVersion,
  platform,
} from '../host/facts.ts';
import { readIfThere } from '../host/files.ts';
import { logDrivers } from '../lib/log-options.ts';
import { type ProxySettings, withoutCredentials } from '../lib/proxy-address.ts';
import { nowText } from '../lib/time.ts';
import type { Store } from '../store/store.ts';
import type { ContainerRecords } from './container-records.ts';
import type { Events } from './events.ts';

/** What the daemon was told about itself; the rest is read off the machine. */
export interface SystemFacts {
  dataRoot: string;
  labels: readonly string[];
  isDebug: boolean;
  loggingDriver: string;
  limits: CgroupLimits;
  noNewPrivileges: boolean;
  /** `builtin`, `unconfined` or the path of a profile. */
  seccompProfile: string;
  /** Containers have cgroup namespaces of their own unless they say. */
  hasOwnCgroups: boolean;
  initProgram: string;
  cdiDirectories: readonly string[];
  runtimes: Readonly<Record<string, { path: string; args?: readonly string[] }>>;
  defaultRuntime: string;
  /** Host, host:port or CIDR. */
  insecureRegistries: readonly string[];
  mirrors: readonly string[];
  /** Where networks without a subnet lie; empty if that is as usual. */
  addressPools: readonly { base: string; size: number }[];
  proxies: ProxySettings;
  commit: string;
  builtAt: string;
  /** What supervisors of old look for in `GET /version` before they trust an engine. */
  engineName?: string;
  /** What people should know about this host, each a sentence. */
  warnings: readonly string[];
  /** Programs whose versions `GET /version` tells: name and a way to ask. */
  componentVersions(): Promise<Readonly<Record<string, string>>>;
}

const NOBODY = { containerd: '', runc: '', init: '' };

/** What the engine can say about itself and its host. */
export class System {
  readonly #facts: SystemFacts;
  readonly #records: ContainerRecords;
  readonly #store: Pick<Store, 'counts'>;
  readonly #events: Events;
  #components: Promise<Readonly<Record<string, string>>> | undefined;

  constructor(o: {
    facts: SystemFacts;
    records: ContainerRecords;
    store: Pick<Store, 'counts'>;
    events: Events;
  }) {
    this.#facts = o.facts;
    this.#records = o.records;
    this.#store = o.store;
    this.#events = o.events;
  }

  async version() {
    const { commit, builtAt, engineName, componentVersions } = this.#facts;
    this.#components ??= componentVersions(); // runs programs: once is enough, they change with the machine's packages
    const versions = Object.entries(await this.#components);
    return {
      platformName: 'Skerry',
      ...(engineName !== undefined && { engineName }),
      gitCommit: commit,
      toolchain: `node${process.version}`,
      os: 'linux',
      architecture: platform().architecture,
      kernelVersion: kernelVersion(),
      buildTime: builtAt,
      components: versions.map(([name, version]) => ({ name, version })),
    };
  }

  async info() {
    const facts = this.#facts;
    const { limits } = facts;
    const isForwardingIpv4 = await isSet('/proc/sys/net/ipv4/ip_forward');
    const isBridgeFilteredByIptables = await isSet('/proc/sys/net/bridge/bridge-nf-call-iptables');
    const isBridgeFilteredByIp6tables = await isSet('/proc/sys/net/bridge/bridge-nf-call-ip6tables');
    return {
      id: await machineId(facts.dataRoot),
      containers: this.#counts(),
      images: (await this.#store.counts()).images,
      driver: 'overlay2',
      driverStatus: [
        ['Backing Filesystem', fileSystemOf(facts.dataRoot)],
        ['Supports d_type', 'true'],
        ['Native Overlay Diff', 'true'],
      ] as const,
      plugins: {
        volume: ['local'],
        network: ['bridge', 'host', 'null'],
        log: logDrivers.filter((name) => name !== 'none'),
      },
      limits: limitsView(limits),
      isForwardingIpv4,
      isBridgeFilteredByIptables,
      isBridgeFilteredByIp6tables,
      isDebug: facts.isDebug,
      openFiles: (await readdir('/proc/self/fd')).length,
      eventListeners: this.#events.subscriberCount,
      time: nowText(),
      loggingDriver: facts.loggingDriver,
      cgroupDriver: 'cgroupfs',
      cgroupVersion: limits.version,
      kernelVersion: kernelVersion(),
      operatingSystem: operatingSystem(),
      osVersion: osVersion(),
      machine: architecture(),
      cpus: cpus(),
      memoryBytes: memoryBytes(),
      dataRoot: facts.dataRoot,
      proxies: {
        http: withoutCredentials(facts.proxies.http),
        https: withoutCredentials(facts.proxies.https),
        no: facts.proxies.no,
      },
      hostname: hostname(),
      labels: facts.labels,
      runtimes: facts.runtimes,
      defaultRuntime: facts.defaultRuntime,
      initProgram: facts.initProgram,
      cdiDirectories: facts.cdiDirectories,
      commits: NOBODY,
      securityOptions: securityOptionsOf(facts),
      registries: {
        insecureCidrs: [
          ...new Set(['127.0.0.0/8', ...facts.insecureRegistries.filter((name) => name.includes('/'))]),
        ],
        insecureHosts: facts.insecureRegistries.filter((name) => !name.includes('/')),
        mirrors: facts.mirrors,
      },
      addressPools: facts.addressPools,
      warnings: [
        ...facts.warnings,
        ...limitWarnings(limits),
        // dockerd's words
        ...(isForwardingIpv4 ? [] : ['WARNING: IPv4 forwarding is disabled']),
        ...(isBridgeFilteredByIptables ? [] : ['WARNING: bridge-nf-call-iptables is disabled']),
        ...(isBridgeFilteredByIp6tables ? [] : ['WARNING: bridge-nf-call-ip6tables is disabled']),
      ],
    };
  }

  #counts(): { running: number; paused: number; stopped: number } {
    const counts = { running: 0, paused: 0, stopped: 0 };
    for (const { state } of this.#records.all()) {
      if (state.status === 'running' || state.status === 'paused') counts[state.status]++;
      else counts.stopped++;
    }
    return counts;
  }
}

/** In dockerd's order. */
function securityOptionsOf({ hasOwnCgroups, noNewPrivileges, seccompProfile }: SystemFacts): string[] {
  return [
    ...(hasAppArmor() ? ['name=apparmor'] : []),
    ...(hasSeccomp() ? [`name=seccomp,profile=${seccompProfile}`] : []),
    ...(hasOwnCgroups ? ['name=cgroupns'] : []),
    ...(noNewPrivileges ? ['name=no-new-privileges'] : []),
  ];
}

function limitsView(limits: CgroupLimits) {
  const { memory, swap, cpuQuota, cpuShares, cpuset, pids, oomKillDisable } = limits;
  return {
    memory,
    swap,
    cpuPeriod: cpuQuota,
    cpuQuota,
    cpuShares,
    cpuSet: cpuset,
    pids,
    oomKillDisable,
    kernelMemory: limits.kernelMemory,
    kernelMemoryTcp: limits.kernelMemoryTcp,
  };
}

/** dockerd's words for what the kernel cannot limit, and its silence where nobody could do anything about it. */
function limitWarnings(limits: CgroupLimits): string[] {
  const isOld = limits.version === 1;
  const throttle = (old: string, unified: string) =>
    isOld ? `blkio throttle.${old}_device` : `io.max (${unified})`;
  const missing: [boolean, string][] = [
    [limits.memory, 'memory limit'],
    [limits.swap, 'swap limit'],
    [limits.kernelMemoryTcp || !isOld, 'kernel memory TCP limit'],
    [limits.oomKillDisable || !isOld, 'oom kill disable'],
    [limits.cpuQuota, 'cpu cfs quota'],
    [limits.cpuQuota, 'cpu cfs period'],
    [limits.cpuShares, 'cpu shares'],
    [limits.cpuset, 'cpuset'],
    [limits.blockWeight || isOld, 'io.weight'],
    [limits.blockWeightDevice || isOld, 'io.weight (per device)'],
    [limits.blockReadBps, throttle('read_bps', 'rbps')],
    [limits.blockWriteBps, throttle('write_bps', 'wbps')],
    [limits.blockReadIops, throttle('read_iops', 'riops')],
    [limits.blockWriteIops, throttle('write_iops', 'wiops')],
    [limits.pids, 'pids limit'],
  ];
  return missing.flatMap(([isThere, what]) => (isThere ? [] : [`WARNING: No ${what} support`]));
}

/** Stable over restarts without being stored: made of the machine's own ID and where the data is. */
async function machineId(dataRoot: string): Promise<string> {
  const machine = (await readIfThere('/etc/machine-id'))?.toString().trim() || hostname();
  const hex = createHash('sha256').update(`${machine} ${dataRoot}`).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
}

async function isSet(path: string): Promise<boolean> {
  return (await readIfThere(path))?.toString().trim() === '1';
}

/** Of the mount that holds the path: the longest mount point that is a prefix of it. */
function fileSystemOf(path: string): string {
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '));
  let best = ['', '/', 'unknown'];
  for (const mount of mounts) {
    const [, point = ''] = mount;
    const isAbove = point === '/' || path === point || path.startsWith(`${point}/`);
    if (isAbove && point.length >= (best[1] ?? '').length) best = mount;
  }
  return best[2] === 'ext4' ? 'extfs' : (best[2] ?? 'unknown');
}
