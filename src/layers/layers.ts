import { readdir, rename, writeFile } from 'node:fs/promises';
import { dirname, extname, join } from 'node:path';
import { Readable } from 'node:stream';
import { codeOf, fail } from '../errors.ts';
import { ensureDirectory, removeTree, renameDurable, syncDirectory, writeDurable } from '../host/files.ts';
import { syncFileSystem } from '../host/kernel.ts';
import { type Digest, shortDigest } from '../lib/digest.ts';
import { Semaphore } from '../lib/locks.ts';
import type { Log } from '../lib/log.ts';
import type { Compression } from './decompression.ts';
import type { BaseLayer, DeltaJob, DeltaOrder, LayerPlace, MadeLayers, PatchJob } from './delta-job.ts';
import type { ExtractedLayer, ExtractionJob } from './extraction.ts';
import { hostFailure } from './host-failure.ts';
import { type ChildProgram, childNodeFlags, failureOfChild, runChild, withCompiler } from './layer-child.ts';
import { hasTree, type LayerOnDisk, newDirId, readLayerDirectory } from './layer-directory.ts';
import { formatLayer, type PublishedLayer } from './layer-records.ts';
import { packedTree } from './packer.ts';
import { mountedLayers, mountRootfs, unmountRootfs } from './rootfs.ts';
import { type StagedLayer, Staging } from './staging.ts';
import { TarSplit } from './tar-split.ts';
import type { Verdict, VerificationJob } from './verification.ts';

export type { LayerOnDisk } from './layer-directory.ts';
export type { StagedLayer } from './staging.ts';
export type { Verdict } from './verification.ts';

/**
 * The layers on disk: unpacks them in children of its own, a few at a time, keeps each in a directory of its own under
 * `layers/`, gives back their tars, and stacks them into root file systems. Knows no records: who needs a layer, and
 * whether two want the same one, is the caller's business. Owns `layers/` and `staging/` in the data root.
 */
export class Layers {
  readonly #layersDir: string;
  readonly #staging: Staging;
  readonly #extractor: ChildProgram;
  readonly #verifier: ChildProgram;
  readonly #packer: ChildProgram;
  readonly #deltas: ChildProgram;
  readonly #patcher: ChildProgram;
  readonly #turns: Semaphore;
  /** One at a time: they read the whole disk, and nobody is in a hurry. */
  readonly #verifications = new Semaphore(1);
  readonly #log: Log;

  private constructor(o: {
    dataRoot: string;
    extractor: ChildProgram;
    verifier: ChildProgram;
    packer: ChildProgram;
    deltas: ChildProgram;
    patcher: ChildProgram;
    parallel: number;
    log: Log;
  }) {
    this.#layersDir = join(o.dataRoot, 'layers');
    this.#staging = new Staging(join(o.dataRoot, 'staging'), o.log);
    this.#extractor = o.extractor;
    this.#verifier = o.verifier;
    this.#packer = o.packer;
    this.#deltas = o.deltas;
    this.#patcher = o.patcher;
    this.#turns = new Semaphore(o.parallel);
    this.#log = o.log;
  }

  /**
   * `childPath` is the program extract-layer, with the others beside it; `childArgs` replaces the flags that keep their
   * memory low.
   */
  static async open(o: {
    dataRoot: string;
    childPath: string;
    childArgs?: readonly string[];
    parallel: number;
    log: Log;
  }): Promise<Layers> {
    const { dataRoot, childPath, parallel, log } = o;
    const nodeFlags = o.childArgs ?? childNodeFlags;
    const beside = (name: string) => ({
      path: join(dirname(childPath), name + extname(childPath)),
      nodeFlags,
    });
    const layers = new Layers({
      dataRoot,
      extractor: { path: childPath, nodeFlags },
      verifier: beside('verify-layer'),
      packer: beside('pack-tree'),
      deltas: {
        ...beside('apply-delta'),
        // compiling takes a tenth of its time; inlining is what it can do without
        nodeFlags: [...withCompiler(nodeFlags), '--max-inlined-bytecode-size-cumulative=200'],
      },
      patcher: beside('apply-patch'),
      parallel,
      log,
    });
    try {
      for (const directory of [layers.#layersDir, layers.#staging.path])
        await ensureDirectory(directory, 0o700);
    } catch (cause) {
      throw hostFailure('cannot prepare the data root', cause);
    }
    return layers;
  }

  /**
   * Unpacks one layer: compressed bytes in, a staged directory out, its tar proven to be `diffId` where that is known
   * beforehand. The input fails by itself if it is not what was asked for, and then this fails with its error. Waits
   * for its turn; after a failure or an abort nothing is left. `maxBytes` is the most that the tar may have, asked for when
   * its turn has come: more is `LAYER_TOO_LARGE`. With a `base` the bytes are a patch for its layers (see
   * {@link PatchJob}), which makes the layer; `BASE_DAMAGED` if they are not what they were.
   */
  async extract(
    input: Readable,
    o: {
      leaseId: string;
      compression: Compression;
      diffId?: Digest;
      base?: readonly BaseLayer[] | undefined;
      maxBytes?: number | (() => Promise<number>);
      onProgress?: (compressedBytes: number) => void;
      signal: AbortSignal;
    },
  ): Promise<StagedLayer> {
    input.on('error', () => {}); // one that fails before its turn is told then
    try {
      await using _turn = await this.#turns.hold({ signal: o.signal });
      const dirId = newDirId();
      const directory = await this.#staging.add(o.leaseId, dirId);
      try {
        const { compression, onProgress, signal } = o;
        const maxBytes = typeof o.maxBytes === 'function' ? await o.maxBytes() : o.maxBytes;
        const job: ExtractionJob = { directory, compression, ...(maxBytes !== undefined && { maxBytes }) };
        const child = { what: 'unpacking a layer', input, onProgress, signal };
        const layer = await (o.base === undefined || o.diffId === undefined
          ? runChild<ExtractedLayer>(this.#extractor, job, child)
          : runChild<ExtractedLayer>(this.#patcher, this.#patchJob(job, o.diffId, o.base), child));
        this.#check(layer, o.diffId);
        const { diffId, sizeBytes, tarBytes } = layer;
        return await this.#seal({ dirId, diffId, sizeBytes, tarBytes, leaseId: o.leaseId, directory });
      } catch (cause) {
        await this.#staging.discard({ leaseId: o.leaseId, directory });
        throw cause;
      }
    } finally {
      input.destroy();
    }
  }

  /**
   * Makes layers of a delta and of layers that are here (`base`, by their directory IDs): each is proven to be its diff
   * ID. Layers that the delta does not make are left out; after a failure on the way, those that were made before it
   * are there, with the failure. Where nothing came of it at all, it throws.
   */
  async applyDelta(
    input: Readable,
    { leaseId, goal, maxBytes, onProgress, signal, ...o }: DeltaOrder,
  ): Promise<{ layers: StagedLayer[]; failure?: Error }> {
    input.on('error', () => {}); // one that fails before its turn is told then
    const places = new Map<Digest, { dirId: string; directory: string }>();
    try {
      await using _turn = await this.#turns.hold({ signal });
      for (const diffId of o.diffIds) {
        const dirId = newDirId();
        places.set(diffId, { dirId, directory: await this.#staging.add(leaseId, dirId) });
      }
      const job: DeltaJob = {
        goal,
        base: o.base.map((layer) => this.#placeOf(layer)),
        layers: [...places].map(([diffId, { directory }]) => ({ diffId, directory })),
        ...(maxBytes !== undefined && { maxBytes }),
      };
      const what = 'applying a delta';
      const made = await runChild<MadeLayers>(this.#deltas, job, { what, input, onProgress, signal });
      const layers: StagedLayer[] = [];
      for (const { diffId, sizeBytes, tarBytes } of made.layers) {
        const place = places.get(diffId);
        if (place === undefined) continue;
        layers.push(await this.#seal({ ...place, diffId, sizeBytes, tarBytes, leaseId }));
      }
      for (const { diffId } of layers) places.delete(diffId);
      return { layers, ...(made.failure && { failure: failureOfChild(made.failure) }) };
    } finally {
      input.destroy();
      for (const { directory } of places.values()) await this.#staging.discard({ leaseId, directory });
    }
  }

  /**
   * Makes a staged layer durable and moves it to its place. One sync of the file system covers all of its files; the
   * rename comes after it, so what is in `layers/` is whole. After a failure nothing is left.
   */
  async publish(staged: StagedLayer): Promise<PublishedLayer> {
    const { dirId, diffId, sizeBytes, tarBytes } = staged;
    const layer = { dirId, diffId, sizeBytes, tarBytes };
    try {
      await syncFileSystem(staged.directory);
      await rename(staged.directory, this.#directoryOf(dirId));
      // the other end of the move need not last: what is staged is swept at boot
      await syncDirectory(this.#layersDir);
    } catch (cause) {
      await this.discard(staged);
      throw hostFailure(`cannot publish layer ${shortDigest(diffId)}`, cause);
    }
    await this.#staging.dropIfEmpty(staged.leaseId);
    return layer;
  }

  /** What lies at the top of a staged layer's tree. */
  async topOf({ directory }: StagedLayer): Promise<{ name: string; isFile: boolean }[]> {
    const entries = await readdir(join(directory, 'diff'), { withFileTypes: true });
    return entries.map((entry) => ({ name: entry.name, isFile: entry.isFile() }));
  }

  /** Lets go of a staged layer that is not wanted after all. Never throws: what resists is swept at the next start. */
  async discard(staged: StagedLayer): Promise<void> {
    await this.#staging.discard(staged);
  }

  /**
   * Layers that an earlier run had unpacked and verified when it ended, for {@link verifyStaged}: of a daemon that was
   * killed they are whole, of a machine that lost its power they may be anything.
   */
  staged(): AsyncGenerator<StagedLayer, void, undefined> {
    return this.#staging.sealed();
  }

  /** True if a layer that was found by {@link staged} is what it says it is. */
  async verifyStaged(
    { directory, diffId }: StagedLayer,
    { signal }: { signal: AbortSignal },
  ): Promise<boolean> {
    const job: VerificationJob = { directory, diffId };
    const what = 'verifying a staged layer';
    return (await runChild<Verdict>(this.#verifier, job, { what, signal })).state === 'ok';
  }

  /** Every directory in `layers/`, by its `layer.json`. One that lacks it or its parts is junk. */
  async *list(): AsyncGenerator<LayerOnDisk, void, undefined> {
    for (const dirId of await readdir(this.#layersDir)) {
      yield await readLayerDirectory(dirId, this.#directoryOf(dirId));
    }
  }

  /** Writes `layer.json` of a layer once more, durably. */
  async mend({ dirId, diffId, sizeBytes, tarBytes }: PublishedLayer): Promise<void> {
    const path = join(this.#directoryOf(dirId), 'layer.json');
    try {
      await removeTree(path); // which may be anything
      await writeDurable(path, formatLayer({ dirId, diffId, sizeBytes, tarBytes }));
    } catch (cause) {
      throw hostFailure(`cannot mend layer ${shortDigest(diffId)}`, cause);
    }
  }

  /** The layers that some mount is made of. */
  async mounted(): Promise<Set<string>> {
    return mountedLayers();
  }

  /** Removes a layer, or junk; absent is fine. It is gone from `layers/` at once and for good, whole. */
  async remove(dirId: string): Promise<void> {
    const grave = await this.bury(dirId);
    try {
      if (grave !== undefined) await removeTree(grave);
    } catch (cause) {
      throw hostFailure(`cannot remove layer ${dirId}`, cause);
    }
  }

  /** As {@link remove}, but what is left to be deleted lies in `staging/`, for {@link sweepStaging}: where, or nowhere. */
  async bury(dirId: string): Promise<string | undefined> {
    const grave = join(this.#staging.path, `removed-${newDirId()}`);
    try {
      await renameDurable(this.#directoryOf(dirId), grave);
      return grave;
    } catch (cause) {
      if (codeOf(cause) === 'ENOENT') return undefined;
      throw hostFailure(`cannot remove layer ${dirId}`, cause);
    }
  }

  /**
   * Removes what is in `staging/` now, but for these leases. Call it while nothing is under way; what begins before it
   * is done is none of its business. What resists is logged and left for the next time: it must not keep the engine
   * from starting.
   */
  async sweepStaging(keepLeases: ReadonlySet<string>): Promise<void> {
    await this.#staging.sweep(keepLeases);
  }

  /** The layer's exact tar. Throws `CORRUPT` in mid-stream if parts of it are gone; it does not check their content. */
  tar(dirId: string): Readable {
    return Readable.from(tarOf(this.#directoryOf(dirId)), { objectMode: false });
  }

  /** Whether the layer is still, in all that its tar says, what `diffId` names. `onProgress` is told bytes of the tar. */
  async verify(
    dirId: string,
    diffId: Digest,
    o: { onProgress?: (tarBytes: number) => void; signal?: AbortSignal } = {},
  ): Promise<Verdict> {
    const directory = this.#directoryOf(dirId);
    await using _turn = await this.#verifications.hold(o.signal ? { signal: o.signal } : {});
    if (!(await hasTree(directory))) return { state: 'missing', differences: [] };
    const job: VerificationJob = { directory, diffId };
    return await runChild<Verdict>(this.#verifier, job, { what: 'verifying a layer', ...o });
  }

  /** The tar of a tree that is no layer; fails in mid-stream if it cannot be read. */
  packTree(root: string, { signal }: { signal: AbortSignal }): Readable {
    return packedTree(this.#packer, { root, kind: 'tree' }, { signal });
  }

  /** What a container has changed, as the tar of a layer over these (lowest first). */
  packChanges(
    o: { dirIds: readonly string[]; containerDir: string },
    { signal }: { signal: AbortSignal },
  ): Readable {
    const lower = o.dirIds.map((dirId) => join(this.#directoryOf(dirId), 'diff')).reverse();
    const job = { root: join(o.containerDir, 'upper'), kind: 'diff', lower } as const;
    return packedTree(this.#packer, job, { signal });
  }

  /**
   * Mounts these layers, lowest first, under the container's `upper/`, and returns the place, `merged/`. Mounted
   * already is fine.
   */
  async mountRootfs(o: { dirIds: readonly string[]; containerDir: string }): Promise<string> {
    return mountRootfs({ layersDir: this.#layersDir, ...o });
  }

  /** Undoes {@link mountRootfs}; not mounted, or no such container, is fine. */
  async unmountRootfs(containerDir: string): Promise<void> {
    await unmountRootfs(containerDir);
  }

  #patchJob(job: ExtractionJob, diffId: Digest, base: readonly BaseLayer[]): PatchJob {
    return { ...job, diffId, base: base.map((layer) => this.#placeOf(layer)) };
  }

  #placeOf(layer: BaseLayer): LayerPlace {
    if ('directory' in layer) return layer;
    return { diffId: layer.diffId, directory: this.#directoryOf(layer.dirId) };
  }

  #directoryOf(dirId: string): string {
    if (!/^[^/]+$/.test(dirId) || dirId === '.' || dirId === '..')
      throw new Error(`no directory ID: ${dirId}`);
    return join(this.#layersDir, dirId);
  }

  /** It is unpacked and verified: a daemon that finds it there may take it up. */
  async #seal(staged: StagedLayer): Promise<StagedLayer> {
    try {
      await writeFile(join(staged.directory, 'layer.json'), formatLayer(staged), { mode: 0o600 });
      return staged;
    } catch (cause) {
      throw hostFailure(`cannot stage layer ${shortDigest(staged.diffId)}`, cause);
    }
  }

  #check({ diffId, ignoredXattrs }: ExtractedLayer, wanted: Digest | undefined): void {
    if (wanted !== undefined && diffId !== wanted)
      throw fail.corrupt(`layer verification failed: expected ${wanted}, unpacked ${diffId}`);
    if (ignoredXattrs > 0)
      this.#log.warn(
        { layer: diffId, xattrs: ignoredXattrs },
        'extended attributes of a layer were left out',
      );
  }
}

async function* tarOf(directory: string): AsyncGenerator<Buffer, void, undefined> {
  using split = TarSplit.open(directory);
  yield* split.stream();
}
