import { closeSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { fail } from '../errors.ts';
import { pathInside } from '../host/inside.ts';
import type { Change } from '../store/tables.ts';
import type { Launcher } from './launcher.ts';
import type { ContainerRecord, MountPoint } from './model.ts';
import { isDeclared, volumesToFill } from './mounts.ts';
import { openSubpath } from './subpaths.ts';
import type { VolumeMounts } from './volume-mounts.ts';
import { deviceOf } from './volume-options.ts';
import type { VolumeUsers } from './volume-users.ts';
import { fillDirectory, isEmpty, type VolumeRecord, type Volumes, type VolumeWish } from './volumes.ts';

/**
 * The volumes of one container that is being made: those that are new, and what goes into those that are empty. Nobody
 * can remove them until {@link release}.
 */
export class VolumeFilling {
  readonly #container: string;
  readonly #volumes: Volumes;
  readonly #mounts: Pick<VolumeMounts, 'hold' | 'letGo' | 'whileHeld'>;
  readonly #users: Pick<VolumeUsers, 'release'>;
  readonly #launcher: Pick<Launcher, 'mount' | 'unmount'>;
  /** Of those without a name; they come to be with the container, or not at all. */
  readonly #prepared = new Map<string, VolumeRecord>();
  readonly #new = new Set<string>();

  constructor(
    container: string,
    o: {
      volumes: Volumes;
      volumeMounts: Pick<VolumeMounts, 'hold' | 'letGo' | 'whileHeld'>;
      volumeUsers: Pick<VolumeUsers, 'release'>;
      launcher: Pick<Launcher, 'mount' | 'unmount'>;
    },
  ) {
    this.#container = container;
    this.#volumes = o.volumes;
    this.#mounts = o.volumeMounts;
    this.#users = o.volumeUsers;
    this.#launcher = o.launcher;
  }

  /** As {@link Volumes} does it; remembers which ones are new. */
  async ensure(name: string | undefined, wish?: VolumeWish): Promise<VolumeRecord> {
    if (name === undefined) {
      const volume = await this.#volumes.prepare(wish);
      this.#prepared.set(volume.name, volume);
      this.#new.add(volume.name);
      return volume;
    }
    const { record, isNew } = await this.#volumes.ensure(name, wish, { user: this.#container });
    if (isNew) this.#new.add(name);
    return record;
  }

  /** Volumes of other containers must not go with them. Throws 404 for one that just has. */
  async borrow(points: readonly MountPoint[]): Promise<void> {
    for (const { name, isBorrowed } of points)
      if (name !== undefined && isBorrowed === true) await this.#volumes.claim(name, this.#container);
  }

  pathOf(name: string): string {
    return this.#volumes.pathOf(name);
  }

  /** Volumes that are empty begin with what the image has at their mount points. */
  async fill(record: ContainerRecord): Promise<void> {
    const points = volumesToFill(record.mounts);
    if (points.length === 0) return;
    const rootfs = await this.#launcher.mount(record);
    try {
      for (const point of points) {
        const source = await pathInside(rootfs, point.destination);
        if (source === undefined) continue;
        if (!(await stat(source)).isDirectory()) {
          throw isDeclared(point)
            ? fail.host(`cannot mount volume over existing file, file exists ${source}`)
            : fail.host(`source ${source} is not directory`);
        }
        await this.#fillOne(point, source);
      }
    } finally {
      await this.#launcher.unmount(record.id);
    }
  }

  /** What a commit needs to keep the volumes that are the container's alone. */
  changes(): Change[] {
    return this.#volumes.kept([...this.#prepared.values()]);
  }

  /** Of a container that does not come to be. */
  async discard(): Promise<void> {
    for (const volume of this.#prepared.values()) await this.#volumes.discard(volume);
  }

  /** The container has a record, which holds its volumes, or does not come to be. */
  release(): void {
    this.#users.release(this.#container);
  }

  async #fillOne({ name = '', request }: MountPoint, source: string): Promise<void> {
    const { subpath = '' } = request?.volumeOptions ?? {};
    const volume = this.#prepared.get(name) ?? (await this.#volumes.find(name));
    if (volume === undefined) throw fail.noSuchVolume(name);
    const isDevice = deviceOf(volume.options) !== undefined;
    if (subpath === '' && !isDevice) {
      return this.#mounts.whileHeld(name, (isUsed) =>
        this.#volumes.fill(name, source, { isNew: this.#new.has(name) && !isUsed }),
      );
    }
    const path = await this.#mounts.hold(volume);
    try {
      await fillPlace(path, subpath, source);
    } finally {
      await this.#mounts.letGo(volume);
    }
  }
}

async function fillPlace(base: string, subpath: string, source: string): Promise<void> {
  let place: number;
  try {
    place = await openSubpath(base, subpath);
  } catch {
    return; // whether it is there by then, the start will tell
  }
  try {
    const target = `/proc/${process.pid}/fd/${place}/`;
    if (await isEmpty(target)) await fillDirectory(target, source);
  } finally {
    closeSync(place);
  }
}
