import { fail } from '../errors.ts';
import { bytesUnder } from '../host/files.ts';
import type { Log } from '../lib/log.ts';
import type { LayerRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { Table } from '../store/tables.ts';
import type { ContainerSummary, Containers } from './containers.ts';
import type { ImageSummary, Images } from './images.ts';
import { hasOptions } from './volume-options.ts';
import type { VolumeUsers } from './volume-users.ts';
import type { VolumeRecord, Volumes } from './volumes.ts';

/** Kinds of objects that take room. */
export type UsageKind = 'images' | 'containers' | 'volumes';

/** A volume with what it takes. */
export interface VolumeUsage {
  record: VolumeRecord;
  path: string;
  /** -1 if it cannot be told. */
  sizeBytes: number;
  /** Containers that have it, running or not. */
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

  /** Those with options are left out, as by dockerd: their files may be anywhere. */
  async #measureVolumes(): Promise<VolumeUsage[]> {
    const { volumes, volumeUsers, log } = this.#o;
    const found: VolumeUsage[] = [];
    for (const record of await volumes.all()) {
      if (hasOptions(record)) continue;
      const path = volumes.pathOf(record.name);
      const sizeBytes = await bytesUnder(path).catch((err: unknown) => {
        log.warn({ volume: record.name, err }, 'could not measure a volume');
        return -1; // dockerd's word for it
      });
      found.push({ record, path, sizeBytes, users: volumeUsers.of(record.name).length });
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
  volumeUsers: Pick<VolumeUsers, 'of'>;
  log: Log;
}
