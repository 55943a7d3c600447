/** What an engine holds on its disk, looked at from outside: is every image whole, and does every byte belong to one? */
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Layers } from '../../src/layers/layers.ts';
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
 * record that an image, a container or a living lease names, and `docker system df` counts the same; nothing is
 * staged. `isThorough` has the engine verify all that the layers' tars say, modes, owners and attributes too: a power
 * cut may lose those alone.
 */
export async function faultsOf(engine: TestEngine, { isThorough = false } = {}): Promise<string[]> {
  const records = await recordsOf(engine.dataRoot);
  return [
    ...(await brokenImages(engine)),
    ...(isThorough ? await unverified(engine) : []),
    ...strayLayers(engine.dataRoot, records),
    ...(await wrongSum(engine)),
    ...strayParts(engine.dataRoot, records),
    ...(await strayContainers(engine)),
  ];
}

/** What the engine itself finds damaged. */
async function unverified(engine: TestEngine): Promise<string[]> {
  const { status, text } = await engine.get('/images/verify', { method: 'POST' });
  if (status !== 200) return [`verify: ${status} ${text}`];
  const said = text.split('\n').filter((line) => line.trim() !== '');
  return said.flatMap((line) => {
    const { error, aux } = JSON.parse(line);
    const bad = (aux?.Layers ?? []).filter(({ State }: { State: string }) => State !== 'ok');
    return error === undefined && bad.length === 0 ? [] : [line];
  });
}

async function brokenImages(engine: TestEngine): Promise<string[]> {
  const layers = await Layers.open({ dataRoot: engine.dataRoot, childPath: '', parallel: 1, log: silentLog });
  const byDiffId = new Map<string, string>();
  for await (const layer of layers.list()) {
    if (!layer.isJunk) byDiffId.set(layer.diffId, layer.dirId);
  }
  const verdicts = new Map<string, Promise<string>>();
  const faults: string[] = [];
  for (const { Id, RepoTags } of await engine.json('/images/json?all=1')) {
    const { status, text } = await engine.get(`/images/${Id}/json`);
    const diffIds = status === 200 ? (JSON.parse(text).RootFS.Layers ?? []) : [];
    if (status !== 200) faults.push(`image ${Id} ${RepoTags} is listed, and inspect says ${status} ${text}`);
    for (const diffId of diffIds) {
      const verdict = verdicts.get(diffId) ?? verdictOn(layers, diffId, byDiffId.get(diffId));
      verdicts.set(diffId, verdict);
      if ((await verdict) !== 'ok') faults.push(`image ${Id} ${RepoTags}: layer ${diffId}: ${await verdict}`);
    }
  }
  return faults;
}

/** 'ok', or what is wrong with it. */
async function verdictOn(layers: Layers, diffId: string, dirId: string | undefined): Promise<string> {
  if (dirId === undefined) return 'it is not on the disk';
  const hash = createHash('sha256');
  try {
    await pipeline(layers.tar(dirId), hash);
  } catch (cause) {
    return `${cause}`;
  }
  return `sha256:${hash.digest('hex')}` === diffId ? 'ok' : `the files in ${dirId} make another tar`;
}

/** What is in flight: nothing is, but parts of blobs may wait for the next try of a pull that died. */
function strayParts(dataRoot: string, records: Records): string[] {
  const spool = join(dataRoot, 'spool');
  const here = new Set<string>(records.layers.map(({ diffId }) => diffId));
  const awaited = new Set<string>(liveLeases(records).flatMap(({ diffIds }) => diffIds));
  const isWanted = (name: string) => {
    const diffId = `sha256:${name.split('.')[0]}`;
    return awaited.has(diffId) && !here.has(diffId);
  };
  return [
    ...readdirSync(join(dataRoot, 'staging')).map((name) => `staging/${name} is left`),
    ...(existsSync(spool) ? readdirSync(spool) : [])
      .filter((name) => !isWanted(name))
      .map((name) => `spool/${name} is left`),
  ];
}

function liveLeases({ leases }: Records): LeaseRecord[] {
  const now = new Date().toISOString();
  return leases.filter(({ expiresAt }) => expiresAt > now);
}

function strayLayers(dataRoot: string, records: Records): string[] {
  const users = [...records.images, ...records.containers, ...liveLeases(records)];
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

/** Where `docker system df` and the disk do not agree on what all layers take. */
async function wrongSum(engine: TestEngine): Promise<string[]> {
  const { LayersSize } = await engine.json('/system/df?type=image');
  const onDisk = publishedLayers(engine.dataRoot).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return LayersSize === onDisk ? [] : [`system df says ${LayersSize} bytes of layers, the disk ${onDisk}`];
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

/** The layers that stand finished in `layers/`, whatever the records say. */
export function publishedLayers(dataRoot: string): { dirId: string; diffId: string; sizeBytes: number }[] {
  return readdirSync(join(dataRoot, 'layers')).flatMap((dirId) => {
    try {
      const text = readFileSync(join(dataRoot, 'layers', dirId, 'layer.json'), 'utf8');
      const { diffId, sizeBytes } = JSON.parse(text);
      return [{ dirId, diffId, sizeBytes }];
    } catch {
      return [];
    }
  });
}

/** Their diff IDs. */
export function finishedLayers(dataRoot: string): Set<string> {
  return new Set(publishedLayers(dataRoot).map(({ diffId }) => diffId));
}
