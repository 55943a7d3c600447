import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fail } from '../errors.ts';
import { pathInside } from '../host/inside.ts';
import type { Layers } from '../layers/layers.ts';
import type { Log } from '../lib/log.ts';
import { containerCapabilities } from '../runtime/capabilities.ts';
import type { DeviceEdits } from '../runtime/cdi.ts';
import type { Runtime } from '../runtime/runtime.ts';
import { resolveUser } from '../runtime/users.ts';
import { type BundlePlaces, bundleSpec } from './bundle-spec.ts';
import { settleEndpoints } from './container-endpoints.ts';
import { linkedTo, setUpLinks } from './container-links.ts';
import type { ContainerNetworks } from './container-networks.ts';
import type { ContainerRecords } from './container-records.ts';
import type { EtcFiles } from './etc-files.ts';
import { initMount, wantsInit } from './init-program.ts';
import type { LayerShelf } from './layer-shelf.ts';
import { type LogDefaults, logSinkOf } from './log-drivers.ts';
import type { ContainerConfig, ContainerRecord, EndpointSettings, PortBinding, Ulimit } from './model.ts';
import type { MountSetup } from './mount-setup.ts';
import { type FindContainer, findDonors, sharedMemoryOf } from './namespaces.ts';
import type { NetworkRecords } from './network-records.ts';
import { markRootfs } from './rootfs-marks.ts';
import type { SecurityDefaults } from './security.ts';
import type { SharedMemory } from './shared-memory.ts';

/** A container that is set up in the kernel, its first process held before it runs. */
export interface Launch {
  pid: number;
  endpoints: Record<string, EndpointSettings>;
  ports: Record<string, PortBinding[] | null>;
  /** With the names of the container whose network it joins. */
  config: ContainerConfig;
}

/** What sets up a container in the kernel. */
export interface LaunchParts {
  layers: Pick<Layers, 'mountRootfs' | 'unmountRootfs'>;
  runtime: Pick<Runtime, 'create' | 'delete'>;
  networks: Pick<ContainerNetworks, 'connectAll' | 'disconnectAll'>;
}

/** What containers get that ask for nothing else. */
export interface LaunchDefaults {
  /** The cgroup that theirs are in; empty for the runtime's own. */
  cgroupParent: string;
  /** An init process, unless they say; and which, if not the one that is found. */
  init: boolean;
  initPath: string | undefined;
  security: SecurityDefaults;
  ulimits: readonly Ulimit[];
  /** Where the files are that describe devices. */
  cdiDirectories: readonly string[];
  logs: LogDefaults;
}

/**
 * Sets up and takes down what a running container has in the kernel: root file system, files under /etc, bundle,
 * monitor, network. Knows no states and keeps no records; every take-down is idempotent.
 */
export class Launcher {
  readonly #dataRoot: string;
  readonly #layers: LaunchParts['layers'];
  readonly #shelf: Pick<LayerShelf, 'mounting' | 'collectRetired' | 'isSound'>;
  readonly #runtime: LaunchParts['runtime'];
  readonly #networks: LaunchParts['networks'];
  readonly #networkRecords: Pick<NetworkRecords, 'find'>;
  readonly #etc: EtcFiles;
  readonly #mounts: MountSetup;
  readonly #shm: SharedMemory;
  readonly #records: Pick<ContainerRecords, 'find' | 'get' | 'all'>;
  readonly #find: FindContainer;
  readonly #defaults: LaunchDefaults;
  readonly #log: Log;

  constructor(
    o: LaunchParts & {
      dataRoot: string;
      shelf: Pick<LayerShelf, 'mounting' | 'collectRetired' | 'isSound'>;
      etc: EtcFiles;
      mounts: MountSetup;
      shm: SharedMemory;
      records: Pick<ContainerRecords, 'find' | 'get' | 'all'>;
      networkRecords: Pick<NetworkRecords, 'find'>;
      defaults: LaunchDefaults;
      log: Log;
    },
  ) {
    this.#dataRoot = o.dataRoot;
    this.#layers = o.layers;
    this.#shelf = o.shelf;
    this.#runtime = o.runtime;
    this.#networks = o.networks;
    this.#networkRecords = o.networkRecords;
    this.#etc = o.etc;
    this.#mounts = o.mounts;
    this.#shm = o.shm;
    this.#records = o.records;
    this.#find = (ref) => o.records.find(ref);
    this.#defaults = o.defaults;
    this.#log = o.log;
  }

  /** The container's own directory under the data root. */
  directoryOf(id: string): string {
    return join(this.#dataRoot, 'containers', id);
  }

  logPathOf(id: string): string {
    return join(this.directoryOf(id), 'log');
  }

  /** Mounts the root file system for a look or a copy without a process. */
  async mount(record: ContainerRecord): Promise<string> {
    const containerDir = this.directoryOf(record.id);
    await mkdir(containerDir, { recursive: true });
    const { id, diffIds } = record;
    if (!this.#shelf.isSound(diffIds))
      this.#log.warn({ container: id, image: record.imageId }, 'a container uses an image that is damaged');
    return this.#shelf.mounting(diffIds, (dirIds) => this.#layers.mountRootfs({ dirIds, containerDir }));
  }

  async unmount(id: string): Promise<void> {
    await this.#layers.unmountRootfs(this.directoryOf(id));
    await this.#shelf.collectRetired();
  }

  /** Everything up to the point where only `runtime.start` is missing. What fails is taken down by the caller. */
  async setUp(given: ContainerRecord, checkpointPath?: string): Promise<Launch> {
    const { hostConfig } = given;
    const placed = settleEndpoints(given, this.#networkRecords);
    const donors = findDonors(placed, this.#find);
    const record = withNamesOf(placed, donors.network);
    const log = logSinkOf(record, { path: this.logPathOf(record.id), defaults: this.#defaults.logs });
    const rootfs = await this.mount(record);
    await markRootfs(rootfs);
    await checkWorkingDirectory(rootfs, record.config.workingDir);
    const user = await resolveUser(rootfs, record.config.user, hostConfig.groupAdd ?? []);
    const mounts = await this.#mounts.setUp(record);
    const links = setUpLinks(record, this.#records);
    if (donors.network === undefined) await this.#etc.write(record, links.hosts);
    const covered = new Set(record.mounts.map(({ destination }) => destination));
    const files = this.#etc.mountsOf({ id: donors.network?.id ?? record.id, hostConfig });
    const own = files.filter(({ destination }) => !covered.has(destination));
    const shm = await this.#sharedMemory(record);
    const edits = await this.#deviceEdits(record, user);
    const spec = bundleSpec(record, {
      rootfs,
      user,
      capabilities: containerCapabilities(hostConfig),
      mounts: [...own, ...mounts],
      log,
      donors,
      linked: links.environment,
      ...(shm !== undefined && { shm }),
      ...(edits !== undefined && { edits }),
      ...(wantsInit(hostConfig, this.#defaults.init) && { init: initMount(this.#defaults.initPath) }),
      cgroupParent: this.#defaults.cgroupParent,
      security: this.#defaults.security,
      ulimits: this.#defaults.ulimits,
    });
    const { pid } = await this.#runtime.create({ ...spec, ...(checkpointPath && { checkpointPath }) });
    await this.#mounts.settle(record.id);
    const { config } = record;
    if (donors.network !== undefined) return { pid, config, endpoints: {}, ports: {} };
    const connections = await this.#networks.connectAll(record, pid);
    await this.#tellLinked(record, connections);
    return { pid, config, ...connections };
  }

  /** Whoever is linked to a container that starts anew finds it where it is now. */
  async #tellLinked(record: ContainerRecord, { endpoints }: Pick<Launch, 'endpoints'>): Promise<void> {
    const { ipAddress = '', globalIPv6Address = '' } = endpoints['bridge'] ?? {};
    for (const { parentId, alias } of linkedTo(record, this.#records))
      for (const address of [ipAddress, globalIPv6Address])
        if (address !== '') await this.#etc.writeLinkAddress(parentId, alias, address);
  }

  async #deviceEdits(
    { id, hostConfig }: ContainerRecord,
    user: { uid: number; gid: number },
  ): Promise<DeviceEdits | undefined> {
    const requests = hostConfig.deviceRequests ?? [];
    if (requests.length === 0) return undefined;
    const { editsFor } = await import('./device-requests.ts'); // most boards have no such devices
    const { edits, problems } = await editsFor(requests, this.#defaults.cdiDirectories, user);
    if (problems.length > 0) this.#log.warn({ container: id, problems }, 'CDI files cannot be used');
    return edits;
  }

  /** What is at /dev/shm, if it is not the container's alone. */
  async #sharedMemory(record: ContainerRecord): Promise<BundlePlaces['shm']> {
    const { ipcMode, shmSize } = record.hostConfig;
    if (ipcMode === 'none') return 'none';
    const owner = sharedMemoryOf(record, this.#find);
    if (owner === undefined) return undefined;
    if (owner === 'host') return { source: '/dev/shm' };
    const isOwn = owner.containerId === record.id;
    return { source: isOwn ? await this.#shm.make(record.id, shmSize) : this.#shm.pathOf(owner.containerId) };
  }

  /** Removes whatever of a container is left in the kernel and the exec root. Safe to repeat; never throws. */
  async takeDown(id: string): Promise<void> {
    const steps: [string, () => Promise<void>][] = [
      ['network', () => this.#networks.disconnectAll(id)],
      ['runtime', () => this.#runtime.delete(id)],
      ['rootfs', () => this.unmount(id)],
      ['mounts', () => this.#mounts.release(id)],
      ['files', () => this.#etc.remove(id)],
      ['shared memory', () => this.#shm.remove(id)],
    ];
    for (const [what, step] of steps) {
      try {
        await step();
      } catch (err) {
        // the next start, removal or boot tries again; the rest must still be taken down now
        this.#log.error({ container: id, what, err }, 'could not take down a part of a container');
      }
    }
  }
}

/** The runtimes make one that is missing. */
async function checkWorkingDirectory(rootfs: string, path: string): Promise<void> {
  const found = path === '' ? undefined : await pathInside(rootfs, path);
  if (found !== undefined && !(await stat(found)).isDirectory())
    throw fail.host(`Cannot mkdir: ${path} is not a directory`);
}

/** Who joins a network has the host name of whom it belongs to. */
function withNamesOf(record: ContainerRecord, donor: ContainerRecord | undefined): ContainerRecord {
  if (donor === undefined) return record;
  const { hostname, domainname } = donor.config;
  return { ...record, config: { ...record.config, hostname, domainname } };
}
