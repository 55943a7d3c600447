import { posix } from 'node:path';
import { deviceRule } from './device-rules.ts';
import { type BundleResources, ociResources } from './resources.ts';
import type { LogSink } from './running-logs.ts';
import { defaultSeccomp, seccompFrom } from './seccomp.ts';
import type { OciSeccomp, SeccompSubject } from './seccomp-rules.ts';

/** A process in a container: its first one, or one more by exec. */
export interface ProcessSpec {
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  readonly user: { readonly uid: number; readonly gid: number; readonly additionalGids: readonly number[] };
  readonly terminal: boolean;
  /** Rows and columns. */
  readonly consoleSize?: readonly [number, number];
  readonly hasStdin: boolean;
  /** Its stdin ends with the first client's; otherwise it stays open while the process lives. */
  readonly isStdinOnce: boolean;
  /** What root in there may do; another user has this as the bound of what it can get. */
  readonly capabilities: readonly string[];
  readonly noNewPrivileges: boolean;
  /** The name of a profile, for kernels that have AppArmor. */
  readonly apparmor?: string;
  readonly oomScoreAdj?: number;
  readonly rlimits: readonly { readonly name: string; readonly hard: number; readonly soft: number }[];
}

export interface BundleMount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/** A device of the host, and where in the container it is to be. */
export interface BundleDevice {
  readonly pathOnHost: string;
  readonly pathInContainer: string;
  /** Of `r`, `w`, `m`. */
  readonly cgroupPermissions: string;
}

/** Of the container's own, the host's, or one that is there, by a path such as `/proc/1/ns/net`. */
export type Namespace = 'private' | 'host' | { readonly path: string };

/** All that makes one run of a container, in the engine's words. */
export interface BundleSpec {
  readonly id: string;
  /** Name of an OCI runtime. */
  readonly runtime: string;
  /** Where its processes go on from, which then run at once; absent for a start from the beginning. */
  readonly checkpointPath?: string;
  /** Mounted and ready. */
  readonly rootfs: string;
  readonly isRootfsReadonly: boolean;
  readonly process: ProcessSpec;
  readonly hostname: string;
  readonly domainname: string;
  readonly namespaces: {
    readonly pid: Namespace;
    readonly ipc: Namespace;
    readonly uts: Namespace;
    readonly network: Namespace;
    readonly cgroup: Namespace;
  };
  /** Beside the defaults; one at the same place is instead of the default. */
  readonly mounts: readonly BundleMount[];
  /** Of its own /dev/shm, unless there is none, or that of others is bound there. */
  readonly shmBytes: number;
  readonly shm?: 'none' | { readonly source: string };
  readonly resources: BundleResources;
  readonly devices: readonly BundleDevice[];
  /** Nodes that are known in full already. */
  readonly nodes?: readonly OciDevice[];
  /** What else may be done with devices: lines of the devices controller, such as `c 188:* rw`. */
  readonly deviceRules?: readonly string[];
  /** By the moment at which they run. */
  readonly hooks?: Readonly<Record<string, readonly OciHook[]>>;
  readonly isPrivileged: boolean;
  /** The built-in filter, none, or a profile file's text in Docker's format. */
  readonly seccomp: 'default' | 'unconfined' | { readonly profile: string };
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  readonly sysctls: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** The cgroup that the container's own is in; empty for ours. */
  readonly cgroupParent: string;
  /** A file's directory exists. */
  readonly log: LogSink;
}

/** What the machine adds. */
export interface SpecHost {
  readonly architecture: string;
  readonly kernel: string;
  readonly hasSeccomp: boolean;
  readonly hasAppArmor: boolean;
  readonly cgroupVersion: 1 | 2;
  /** Set in every private network namespace, unless the container sets them otherwise. */
  readonly networkSysctls: Readonly<Record<string, string>>;
}

/** `config.json` of the OCI runtime spec 1.0, as far as it is used here. */
export interface OciSpec {
  ociVersion: string;
  process: OciProcess;
  root: { path: string; readonly: boolean };
  hostname?: string;
  mounts: BundleMount[];
  annotations: Readonly<Record<string, string>>;
  hooks?: Readonly<Record<string, readonly OciHook[]>>;
  linux: {
    namespaces: { type: string; path?: string }[];
    resources: object;
    devices: object[];
    sysctl: Record<string, string>;
    seccomp?: OciSeccomp;
    maskedPaths: readonly string[];
    readonlyPaths: readonly string[];
    rootfsPropagation?: 'shared' | 'rslave';
    cgroupsPath: string;
  };
}

/** A program of the host that the OCI runtime runs (OCI runtime-spec 1.0, config.md, POSIX-platform Hooks). */
export interface OciHook {
  readonly path: string;
  readonly args?: readonly string[];
  readonly env?: readonly string[];
  /** Seconds. */
  readonly timeout?: number;
}

/** A device node to make in a container (OCI runtime-spec 1.0, config-linux.md, Devices), and what may be done with it. */
export interface OciDevice {
  readonly path: string;
  readonly type: 'c' | 'b' | 'u' | 'p';
  readonly major: number;
  readonly minor: number;
  readonly fileMode: number;
  readonly uid: number;
  readonly gid: number;
  readonly permissions: string;
}

export interface OciProcess {
  terminal: boolean;
  consoleSize?: { height: number; width: number };
  user: { uid: number; gid: number; additionalGids: readonly number[] };
  args: readonly string[];
  env: readonly string[];
  cwd: string;
  capabilities: Partial<Record<'bounding' | 'effective' | 'permitted', readonly string[]>>;
  noNewPrivileges: boolean;
  apparmorProfile?: string;
  oomScoreAdj?: number;
  rlimits: { type: string; hard: number; soft: number }[];
}

const DEFAULT_CGROUP_PARENT = '/skerry';

/** A container's cgroup, as /proc/PID/cgroup shows it. */
export function cgroupOf({ id, cgroupParent }: Pick<BundleSpec, 'id' | 'cgroupParent'>): string {
  return posix.join('/', cgroupParent === '' ? DEFAULT_CGROUP_PARENT : placeOfSlice(cgroupParent), id);
}

/** systemd's slices lie where their names say: `a-b.slice` in `a.slice`. Other parents are paths. */
function placeOfSlice(parent: string): string {
  const words = /^([^/]+)\.slice$/.exec(parent)?.[1]?.split('-') ?? [''];
  if (words.includes('')) return parent;
  return words.map((_, at) => `${words.slice(0, at + 1).join('-')}.slice`).join('/');
}

/** Writes a bundle's config in the OCI runtime's words, with dockerd's defaults. Pure. */
export function ociSpec(bundle: BundleSpec, devices: readonly OciDevice[], host: SpecHost): OciSpec {
  const { namespaces } = bundle;
  const seccomp = seccompOf(bundle, host);
  const apparmor = host.hasAppArmor ? bundle.process.apparmor : undefined;
  const rootfsPropagation = rootPropagationOf(bundle);
  return {
    ociVersion: '1.0.2',
    process: { ...ociProcess(bundle.process), ...(apparmor !== undefined && { apparmorProfile: apparmor }) },
    root: { path: bundle.rootfs, readonly: bundle.isRootfsReadonly },
    ...(namespaces.uts === 'private' && { hostname: bundle.hostname }),
    mounts: mountsOf(bundle),
    annotations: bundle.annotations,
    ...(bundle.hooks !== undefined && { hooks: bundle.hooks }),
    linux: {
      namespaces: namespacesOf(namespaces),
      resources: resourcesOf(bundle, devices, host),
      devices: devices.map(({ permissions: _, ...device }) => device),
      sysctl: sysctlsOf(bundle, host),
      ...(seccomp !== undefined && { seccomp }),
      maskedPaths: bundle.maskedPaths,
      readonlyPaths: bundle.readonlyPaths,
      ...(rootfsPropagation !== undefined && { rootfsPropagation }),
      cgroupsPath: cgroupOf(bundle),
    },
  };
}

/** One process in the OCI runtime's words: part of a config, or the whole file that an exec reads. */
export function ociProcess(process: ProcessSpec): OciProcess {
  const { user, capabilities, consoleSize, oomScoreAdj } = process;
  const isRoot = user.uid === 0;
  return {
    terminal: process.terminal,
    ...(process.terminal &&
      consoleSize !== undefined && { consoleSize: { height: consoleSize[0], width: consoleSize[1] } }),
    user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids },
    args: process.args,
    env: process.env,
    cwd: process.cwd,
    // what execve(2) makes of them: nothing but the bound is left to one who is not root
    capabilities: isRoot
      ? { bounding: capabilities, effective: capabilities, permitted: capabilities }
      : { bounding: capabilities },
    noNewPrivileges: process.noNewPrivileges,
    ...(oomScoreAdj !== undefined && { oomScoreAdj }),
    rlimits: process.rlimits.map(({ name, hard, soft }) => ({
      type: `RLIMIT_${name.toUpperCase()}`,
      hard,
      soft,
    })),
  };
}

/** Each kind that is not the host's: of its own, or one to join. */
function namespacesOf(namespaces: BundleSpec['namespaces']): { type: string; path?: string }[] {
  const kinds = (['pid', 'ipc', 'uts', 'network', 'cgroup'] as const).flatMap((type) => {
    const namespace = namespaces[type];
    if (namespace === 'host') return [];
    return [namespace === 'private' ? { type } : { type, path: namespace.path }];
  });
  return [{ type: 'mount' }, ...kinds];
}

function defaultMounts({ shmBytes, shm, namespaces }: BundleSpec): BundleMount[] {
  const strict = ['nosuid', 'noexec', 'nodev'];
  const mount = (type: string, destination: string, options: string[], source = type) => ({
    destination,
    type,
    source,
    options,
  });
  const sharedMemory = () => {
    const shared = typeof shm === 'object' ? shm.source : undefined;
    const source = shared ?? (namespaces.ipc === 'host' ? '/dev/shm' : undefined);
    if (source !== undefined) return mount('bind', '/dev/shm', ['rbind', 'rprivate'], source);
    return mount('tmpfs', '/dev/shm', [...strict, 'mode=1777', `size=${shmBytes}`], 'shm');
  };
  return [
    mount('proc', '/proc', strict),
    mount('tmpfs', '/dev', ['nosuid', 'strictatime', 'mode=755', 'size=65536k']),
    mount('devpts', '/dev/pts', ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5']),
    mount('sysfs', '/sys', [...strict, 'ro']),
    mount('cgroup', '/sys/fs/cgroup', ['ro', ...strict]),
    mount('mqueue', '/dev/mqueue', strict),
    ...(shm === 'none' ? [] : [sharedMemory()]),
  ];
}

/** The defaults that nothing replaces, then the container's own, outer ones before inner ones. */
function mountsOf(bundle: BundleSpec): BundleMount[] {
  const own = bundle.mounts.map((mount) => ({
    ...mount,
    destination: posix.resolve('/', mount.destination),
  }));
  const isOwn = (path: string) => own.some(({ destination }) => destination === path);
  const defaults = defaultMounts(bundle)
    .filter(({ destination }) => !isOwn(destination) && !(destination.startsWith('/dev/') && isOwn('/dev')))
    .map((mount) => withAccess(mount, bundle));
  const depth = (path: string) => path.split('/').length;
  return [...defaults, ...own.sort((a, b) => depth(a.destination) - depth(b.destination))];
}

/** What is mounted under a shared or slave mount goes on only as far as the root that the mount is in lets it. */
function rootPropagationOf({ mounts }: BundleSpec): 'shared' | 'rslave' | undefined {
  const asked = new Set(mounts.flatMap(({ options }) => options));
  if (asked.has('shared') || asked.has('rshared')) return 'shared';
  return asked.has('slave') || asked.has('rslave') ? 'rslave' : undefined;
}

const alwaysWritable = new Set(['/proc', '/dev', '/dev/pts', '/dev/shm', '/dev/mqueue']);

/** A privileged container may write to /sys and its cgroups, also where its root file system is read-only. */
function withAccess(mount: BundleMount, { isPrivileged }: BundleSpec): BundleMount {
  if (alwaysWritable.has(mount.destination)) return mount;
  const options = mount.options.filter((option) => option !== 'ro');
  return { ...mount, options: isPrivileged ? options : [...options, 'ro'] };
}

function resourcesOf(bundle: BundleSpec, devices: readonly OciDevice[], host: SpecHost): object {
  const deviceRules = bundle.isPrivileged
    ? [{ allow: true, access: 'rwm' }]
    : [
        // the runtimes add what every container needs: null, zero, full, random, tty, ptys, and mknod of any
        { allow: false, access: 'rwm' },
        ...devices
          .filter(({ type }) => type !== 'p')
          .map(({ type, major, minor, permissions }) => ({
            allow: true,
            type: type === 'u' ? 'c' : type,
            major,
            minor,
            access: permissions,
          })),
        ...(bundle.deviceRules ?? []).map(deviceRule),
      ];
  return { devices: deviceRules, ...ociResources(bundle.resources, host.cgroupVersion) };
}

function sysctlsOf({ namespaces, domainname, sysctls }: BundleSpec, host: SpecHost): Record<string, string> {
  return {
    ...(namespaces.network === 'private' && host.networkSysctls),
    ...(namespaces.uts === 'private' && domainname !== '' && { 'kernel.domainname': domainname }),
    ...sysctls,
  };
}

function seccompOf({ seccomp, process }: BundleSpec, host: SpecHost): OciSeccomp | undefined {
  if (!host.hasSeccomp || seccomp === 'unconfined') return undefined;
  const subject: SeccompSubject = { ...host, capabilities: process.capabilities };
  return seccomp === 'default' ? defaultSeccomp(subject) : seccompFrom(seccomp.profile, subject);
}
