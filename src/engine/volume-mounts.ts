import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { fail } from '../errors.ts';
import { MS, mount } from '../host/kernel.ts';
import { reasonOf } from '../host/libc.ts';
import { parseMountOptions } from '../host/mount-options.ts';
import { mountsUnder, unmountAll } from '../host/mounts.ts';
import { Locks } from '../lib/locks.ts';
import type { ContainerRecord } from './model.ts';
import { deviceOf, type VolumeDevice } from './volume-options.ts';
import type { VolumeRecord, Volumes } from './volumes.ts';

/**
 * Volumes whose files are elsewhere (`type`, `device`, `o` of the local driver): mounted when the first container with
 * one is started, and let go of after the last. Whether one is mounted, the kernel knows; no count is kept.
 */
export class VolumeMounts {
  readonly #volumes: Pick<Volumes, 'find' | 'pathOf' | 'all'>;
  readonly #records: { all(): ContainerRecord[] };
  readonly #locks = new Locks();
  /** Containers that are down, and whose records are about to say so. */
  readonly #ended = new Set<string>();

  constructor(o: {
    volumes: Pick<Volumes, 'find' | 'pathOf' | 'all'>;
    records: { all(): ContainerRecord[] };
  }) {
    this.#volumes = o.volumes;
    this.#records = o.records;
  }

  /** The volumes of a container that is starting, by name: where their files are. Throws as {@link hold} does, and 404. */
  async acquire({ id, mounts: points }: ContainerRecord): Promise<Map<string, string>> {
    this.#ended.delete(id);
    const paths = new Map<string, string>();
    for (const { name } of points) {
      if (name === undefined || paths.has(name)) continue;
      const volume = await this.#volumes.find(name);
      if (volume === undefined) throw fail.noSuchVolume(name);
      paths.set(name, await this.hold(volume));
    }
    return paths;
  }

  /** Where a volume's files are, what belongs there mounted. Throws 500 if it cannot be. */
  async hold({ name, options }: VolumeRecord): Promise<string> {
    const path = this.#volumes.pathOf(name);
    const device = deviceOf(options);
    await using _lock = await this.#locks.hold(name); // it may just be filled
    if (device === undefined || (await mountsUnder(path)).length > 0) return path;
    try {
      mountDevice(await withAddress(device), path);
    } catch (cause) {
      throw fail.host(`error while mounting volume '${path}': ${withoutPassword(cause, device)}`, cause);
    }
    return path;
  }

  /** Lets go of the volumes that only this container had. It has no process any more, whatever its record says. */
  async release(id: string): Promise<void> {
    this.#ended.add(id);
    const points = this.#records.all().find((record) => record.id === id)?.mounts ?? [];
    for (const { name = '' } of points) {
      const volume = await this.#volumes.find(name);
      if (volume !== undefined) await this.letGo(volume);
    }
    for (const ended of this.#ended)
      if (!this.#records.all().some((record) => record.id === ended && isUp(record)))
        this.#ended.delete(ended);
  }

  /** Lets go of a volume that no container has. */
  async letGo({ name, options }: VolumeRecord): Promise<void> {
    if (deviceOf(options) === undefined) return;
    await this.whileHeld(name, async (isUsed) => {
      if (!isUsed) await unmountAll(this.#volumes.pathOf(name));
    });
  }

  /** Work on a volume that no container gets meanwhile; it is told whether one has it already. */
  async whileHeld(name: string, work: (isUsed: boolean) => Promise<void>): Promise<void> {
    await using _lock = await this.#locks.hold(name);
    const users = this.#records.all().filter((record) => isUp(record) && !this.#ended.has(record.id));
    await work(users.some(({ mounts: points }) => points.some((point) => point.name === name)));
  }

  /** Boot: containers that were made or removed when the last daemon died. */
  async recover(): Promise<void> {
    for (const volume of await this.#volumes.all()) await this.letGo(volume);
  }
}

/** A container that has its mounts, or is about to have them, as far as its record knows. */
export function isUp({ state: { status } }: ContainerRecord): boolean {
  return status === 'starting' || status === 'running' || status === 'paused';
}

function mountDevice({ type, device, options }: VolumeDevice, path: string): void {
  if (device === '') throw new Error('missing device in volume options');
  const { flags, propagation, data } = parseMountOptions(options);
  const told = `${device}:${path}${flags === 0 ? '' : `, flags: 0x${flags.toString(16)}`}${data === '' ? '' : `, data: ${data}`}`;
  try {
    mount(device, path, { type, flags, ...(data !== '' && { data }) });
    if (propagation !== 0) mount('', path, { flags: propagation });
    // the kernel takes no other flags with a new bind
    if ((flags & MS.BIND) !== 0 && (flags & MS.RDONLY) !== 0) mount('', path, { flags: flags | MS.REMOUNT });
  } catch (cause) {
    throw new Error(`failed to mount local volume: mount ${told}: ${reasonOf(cause)}`, { cause });
  }
}

/** The kernel's network file systems want addresses: what is a name is looked up at each mount. */
async function withAddress(device: VolumeDevice): Promise<VolumeDevice> {
  if (device.type !== 'nfs' && device.type !== 'cifs') return device;
  const [, host] = /(?:^|,)addr=([^,]*)/.exec(device.options) ?? [];
  if (host !== undefined && host !== '') {
    if (isIP(host) !== 0) return device;
    const address = await addressOf(host);
    return { ...device, options: device.options.replace(`addr=${host}`, `addr=${address}`) };
  }
  const [, server] = device.type === 'cifs' ? (/^\/\/([^/]+)/.exec(device.device) ?? []) : [];
  if (server === undefined || isIP(server) !== 0) return device;
  return { ...device, device: device.device.replace(server, await addressOf(server)) };
}

async function addressOf(host: string): Promise<string> {
  try {
    return (await lookup(host)).address;
  } catch (cause) {
    throw new Error(`error resolving passed in network volume address: lookup ${host}: no such host`, {
      cause,
    });
  }
}

function withoutPassword(cause: unknown, { options }: VolumeDevice): string {
  const [, password] = /(?:^|,)password=([^,]+)/.exec(options) ?? [];
  const text = cause instanceof Error ? cause.message : String(cause);
  return password === undefined ? text : text.replaceAll(`password=${password}`, 'password=********');
}
