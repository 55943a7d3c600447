import { fail } from '../errors.ts';
import { bytesUnder } from '../host/files.ts';
import type { LayerRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { Table } from '../store/tables.ts';
import type { ContainerRecords } from './container-records.ts';
import type { ContainerSummary, Containers } from './containers.ts';
import type { ImageSummary, Images } from './images.ts';
import type { VolumeRecord, Volumes } from './volumes.ts';

/** Kinds of objects that take room. */
export type UsageKind = 'images' | 'containers' | 'volumes';

/** A volume with what it takes. */
export interface VolumeUsage {
  record: VolumeRecord;
  path: string;
  sizeBytes: number;
  /** Containers that have it mounted, running or not. */
  users: number;
}

/** What takes how much room; only what was asked for is there. */
export interface Usage {
  /** Bytes of all layers on the disk, each counted once. */
  layersBytes?: number;
  images?: ImageSummary[];
  containers?: ContainerSummary[];
  volumes?: VolumeUsage[];
}

/** Measures what the engine's objects take of the disk. Layers are known; containers and volumes are walked. */
export class DiskUsage {
  readonly #o: DiskUsageParts;
  readonly #layers: Table<LayerRecord>;
  readonly #running = new Map<string, Promise<Usage>>();

  constructor(parts: DiskUsageParts) {
    this.#o = parts;
    this.#layers = parts.store.table('layers');
  }

  /** Who asks the same while a measurement runs shares it, or with `isAlone` is refused as dockerd of old did (500). */
  async measure(kinds: readonly UsageKind[], { isAlone }: { isAlone: boolean }): Promise<Usage> {
    if (isAlone && this.#running.size > 0) throw fail.host('a disk usage operation is already running');
    const key = [...kinds].sort().join();
    const running = this.#running.get(key) ?? this.#measure(kinds).finally(() => this.#running.delete(key));
    this.#running.set(key, running);
    return running;
  }

  async #measure(kinds: readonly UsageKind[]): Promise<Usage> {
    const { images, containers } = this.#o;
    const filters = new Map();
    const usage: Usage = {};
    if (kinds.includes('images')) {
      usage.layersBytes = 0;
      for await (const [, { sizeBytes }] of this.#layers.entries()) usage.layersBytes += sizeBytes;
      usage.images = await images.list({ filters, withSharedSize: true });
    }
    if (kinds.includes('containers'))
      usage.containers = await containers.list({ isAll: true, limit: 0, withSize: true, filters });
    if (kinds.includes('volumes')) usage.volumes = await this.#measureVolumes();
    return usage;
  }

  async #measureVolumes(): Promise<VolumeUsage[]> {
    const { volumes, records } = this.#o;
    const mounted = records
      .all()
      .flatMap(({ mounts }) => [...new Set(mounts.flatMap(({ name }) => name ?? []))]);
    const found: VolumeUsage[] = [];
    for (const record of await volumes.all()) {
      const path = volumes.pathOf(record.name);
      const users = mounted.filter((name) => name === record.name).length;
      found.push({ record, path, sizeBytes: await bytesUnder(path), users });
    }
    return found;
  }
}

/** Whose objects are measured. */
export interface DiskUsageParts {
  store: Pick<Store, 'table'>;
  images: Pick<Images, 'list'>;
  containers: Pick<Containers, 'list'>;
  volumes: Pick<Volumes, 'all' | 'pathOf'>;
  records: Pick<ContainerRecords, 'all'>;
}
