/** What an engine holds on its disk, looked at from outside: is every image whole, and does every byte belong to one? */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Layers } from '../../src/layers/layers.ts';
import { isDigest } from '../../src/lib/digest.ts';
import { silentLog } from '../../src/lib/log.ts';
import type { ImageRecord, LayerRecord, LeaseRecord } from '../../src/store/records.ts';
import { Store } from '../../src/store/store.ts';
import type { TestEngine } from './engine.ts';

/** What the database says. */
interface Records {
  images: ImageRecord[];
  layers: LayerRecord[];
  leases: LeaseRecord[];
  containers: { diffIds: string[] }[];
}

/**
 * Everything that is wrong with the images and layers of an engine at rest; empty if all is well. Every listed image
 * can be inspected, and each of its layers, read from its files, hashes to its diff ID; every layer's directory has a
 * record that an image, a container or a living lease names; nothing is staged.
 */
export async function faultsOf(engine: TestEngine): Promise<string[]> {
  const records = await recordsOf(engine.dataRoot);
  return [
    ...(await brokenImages(engine)),
    ...strayLayers(engine.dataRoot, records),
    ...readdirSync(join(engine.dataRoot, 'staging')).map((name) => `staging/${name} is left`),
    ...(await strayContainers(engine)),
  ];
}

async function brokenImages(engine: TestEngine): Promise<string[]> {
  const layers = await Layers.open({
    dataRoot: engine.dataRoot,
    childPath: fileURLToPath(new URL('../../dist/extract-layer.js', import.meta.url)),
    parallel: 1,
    log: silentLog,
  });
  const byDiffId = new Map<string, string>();
  for await (const layer of layers.list()) {
    if (!layer.isJunk) byDiffId.set(layer.diffId, layer.dirId);
  }
  const faults: string[] = [];
  const verdicts = new Map<string, boolean>();
  for (const { Id, RepoTags } of await engine.json('/images/json?all=1')) {
    const { status, text } = await engine.get(`/images/${Id}/json`);
    if (status !== 200) faults.push(`image ${Id} ${RepoTags} is listed, and inspect says ${status} ${text}`);
    else {
      for (const diffId of JSON.parse(text).RootFS.Layers ?? []) {
        const dirId = byDiffId.get(diffId);
        const isWhole =
          verdicts.get(diffId) ??
          (dirId !== undefined && isDigest(diffId) && (await layers.verify(dirId, diffId)).state === 'ok');
        verdicts.set(diffId, isWhole);
        const why = dirId === undefined ? 'is not on the disk' : `in ${dirId} is damaged`;
        if (!isWhole) faults.push(`image ${Id} ${RepoTags}: layer ${diffId} ${why}`);
      }
    }
  }
  return faults;
}

function strayLayers(dataRoot: string, records: Records): string[] {
  const now = new Date().toISOString();
  const users = [
    ...records.images,
    ...records.containers,
    ...records.leases.filter(({ expiresAt }) => expiresAt > now),
  ];
  const named = new Set(users.flatMap(({ diffIds }) => diffIds as string[]));
  const byDirectory = new Map(records.layers.map((layer) => [layer.dirId, layer]));
  const onDisk = readdirSync(join(dataRoot, 'layers'));
  return [
    ...onDisk.flatMap((dirId) => {
      const record = byDirectory.get(dirId);
      if (record === undefined) return [`layers/${dirId} has no record`];
      return named.has(record.diffId) ? [] : [`layers/${dirId}: nothing names ${record.diffId}`];
    }),
    ...records.layers
      .filter(({ dirId }) => !onDisk.includes(dirId))
      .map(({ diffId }) => `${diffId} has a record and no directory`),
  ];
}

/** Directories of containers that are not listed. */
async function strayContainers(engine: TestEngine): Promise<string[]> {
  const listed = new Set((await engine.json('/containers/json?all=1')).map(({ Id }: { Id: string }) => Id));
  return readdirSync(join(engine.dataRoot, 'containers'))
    .filter((id) => !listed.has(id))
    .map((id) => `containers/${id} is left`);
}

/** The records of an engine that runs, out of a copy of its database; tried again if that was caught in mid-change. */
async function recordsOf(dataRoot: string): Promise<Records> {
  for (let attempt = 1; ; attempt++) {
    const copy = mkdtempSync(join(tmpdir(), 'skt-db-'));
    try {
      cpSync(join(dataRoot, 'db'), join(copy, 'db'), { recursive: true });
      await using store = await openCopy(copy);
      if (store.needsRebuild) throw new Error('the copy of the database is not whole');
      return {
        images: await all(store.table<ImageRecord>('images').entries()),
        layers: await all(store.table<LayerRecord>('layers').entries()),
        leases: await all(store.table<LeaseRecord>('leases').entries()),
        containers: await all(store.table<{ diffIds: string[] }>('containers').entries()),
      };
    } catch (cause) {
      if (attempt === 10) throw cause;
      await sleep(100);
    } finally {
      rmSync(copy, { recursive: true, force: true });
    }
  }
}

function openCopy(dataRoot: string): Promise<Store> {
  return Store.open({
    dir: join(dataRoot, 'db'),
    cacheBytes: 64 << 10,
    writeBufferBytes: 64 << 10,
    blockBytes: 4 << 10,
    fileBytes: 64 << 10,
    log: silentLog,
  });
}

async function all<T>(entries: AsyncIterable<[string, T]>): Promise<T[]> {
  const records: T[] = [];
  for await (const [, record] of entries) records.push(record);
  return records;
}

/** Diff IDs of the layers that stand finished in `layers/`, whatever the records say. */
export function finishedLayers(dataRoot: string): Set<string> {
  return new Set(
    readdirSync(join(dataRoot, 'layers')).flatMap((dirId) => {
      try {
        return JSON.parse(readFileSync(join(dataRoot, 'layers', dirId, 'layer.json'), 'utf8')).diffId;
      } catch {
        return [];
      }
    }),
  );
}
