import { mkdir, stat } from 'node:fs/promises';
import { codeOf, fail } from '../errors.ts';
import { reasonOf } from '../host/libc.ts';
import type { Events } from './events.ts';
import type { ContainerRecord, MountPoint } from './model.ts';
import { cleanPath } from './mount-requests.ts';
import { type BundleMount, bundleMounts, type PreparedMount } from './mounts.ts';
import { checkPropagation } from './propagation.ts';
import type { Subpaths } from './subpaths.ts';
import { isUp, type VolumeMounts } from './volume-mounts.ts';
import { LOCAL_DRIVER } from './volume-options.ts';

/** What the mounts of a container need outside of it: sources, mounted volumes, places within volumes. */
export class MountSetup {
  readonly #volumes: Pick<VolumeMounts, 'acquire' | 'release' | 'recover'>;
  readonly #subpaths: Pick<Subpaths, 'mount' | 'remove' | 'recover'>;
  readonly #records: { get(id: string): ContainerRecord | undefined };
  readonly #events: Pick<Events, 'emit'>;
  readonly #whyFlat: (runtime: string) => Promise<string | undefined>;

  constructor(o: {
    volumes: Pick<VolumeMounts, 'acquire' | 'release' | 'recover'>;
    subpaths: Pick<Subpaths, 'mount' | 'remove' | 'recover'>;
    records: { get(id: string): ContainerRecord | undefined };
    events: Pick<Events, 'emit'>;
    /** Why an OCI runtime cannot make what is mounted below a mount read-only, too; undefined if it can. */
    whyFlat: (runtime: string) => Promise<string | undefined>;
  }) {
    this.#volumes = o.volumes;
    this.#subpaths = o.subpaths;
    this.#records = o.records;
    this.#events = o.events;
    this.#whyFlat = o.whyFlat;
  }

  /** Prepares what a container mounts. What fails, and what is not needed any more, {@link release} takes back. */
  async setUp(record: ContainerRecord): Promise<BundleMount[]> {
    const { mounts, hostConfig } = record;
    const tmpfs = new Set(Object.keys(hostConfig.tmpfs ?? {}).map(cleanPath));
    const volumes = await this.#volumes.acquire(record);
    const prepared: PreparedMount[] = [];
    for (const point of mounts) {
      if (point.type === 'tmpfs' || tmpfs.has(point.destination)) continue;
      checkReadOnlyKinds(point);
      const source = await this.#sourceOf(record.id, point, volumes);
      // one that comes of itself, with the engine's own data, is a wish and no more
      checkPropagation(point.request?.bindOptions?.propagation ?? '', source);
      prepared.push({ point, source, isDeep: await this.#isDeep(point, source, record.runtime) });
      this.#tell('mount', record.id, point);
    }
    return bundleMounts(prepared, mounts, hostConfig);
  }

  /** The container has its mounts: ways to them are not needed any more. */
  async settle(id: string): Promise<void> {
    await this.#subpaths.remove(id);
  }

  /** The container is down. Safe to repeat. */
  async release(id: string): Promise<void> {
    await this.#subpaths.remove(id);
    await this.#volumes.release(id);
    const record = this.#records.get(id);
    if (record === undefined || !isUp(record)) return; // nothing was mounted, or that was told
    for (const point of record.mounts) this.#tell('unmount', id, point);
  }

  /** Boot: what an earlier daemon left of starts and containers that are no more. */
  async recover(): Promise<void> {
    await this.#subpaths.recover();
    await this.#volumes.recover();
  }

  #tell(action: 'mount' | 'unmount', container: string, point: MountPoint): void {
    const { type, name, destination, isWritable, propagation } = point;
    if (type !== 'volume' || name === undefined) return;
    const how = { destination, 'read/write': String(isWritable), propagation };
    this.#events.emit('volume', action, name, {
      container,
      driver: LOCAL_DRIVER,
      ...(action === 'mount' && how),
    });
  }

  async #sourceOf(
    id: string,
    { name = '', source, mustExist, request }: MountPoint,
    volumes: ReadonlyMap<string, string>,
  ): Promise<string> {
    const path = volumes.get(name);
    if (path !== undefined) {
      const subpath = request?.volumeOptions?.subpath ?? '';
      return subpath === '' ? path : this.#subpaths.mount(id, path, subpath);
    }
    if (mustExist !== true) await makeBindSource(source);
    return source;
  }

  async #isDeep({ isWritable, request }: MountPoint, source: string, runtime: string): Promise<boolean> {
    if (isWritable) return false;
    const { readOnlyNonRecursive = false, readOnlyForceRecursive = false } = request?.bindOptions ?? {};
    if (readOnlyNonRecursive) return false;
    const why = await this.#whyFlat(runtime);
    if (why !== undefined && readOnlyForceRecursive) throw fail.host(why);
    // nothing can be mounted below a file, and crun 1.8 refuses to try
    return why === undefined && (await isDirectory(source));
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}

/** Makes the directory of a bind that is missing, as dockerd does for `-v /host:/path`. */
export async function makeBindSource(source: string): Promise<void> {
  try {
    await mkdir(source, { recursive: true });
  } catch (cause) {
    // a file is as good, and what is below one is the runtime's to refuse
    if (['EEXIST', 'ENOTDIR'].includes(codeOf(cause) ?? '')) return;
    throw fail.host(
      `error while creating mount source path '${source}': mkdir ${source}: ${reasonOf(cause)}`,
      cause,
    );
  }
}

function checkReadOnlyKinds({ type, request }: MountPoint): void {
  if (type !== 'bind' || request?.bindOptions === undefined) return;
  const { readOnly = false, bindOptions } = request;
  const { readOnlyNonRecursive = false, readOnlyForceRecursive = false } = bindOptions;
  const conflict = (what: string) => fail.host(`mount options conflict: ${what}`);
  if (!readOnly && readOnlyNonRecursive) throw conflict('!ReadOnly && BindOptions.ReadOnlyNonRecursive');
  if (!readOnly && readOnlyForceRecursive) throw conflict('!ReadOnly && BindOptions.ReadOnlyForceRecursive');
  if (readOnlyNonRecursive && readOnlyForceRecursive)
    throw conflict('ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive');
}
