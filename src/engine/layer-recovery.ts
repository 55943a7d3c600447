import type { LayerOnDisk, Layers } from '../layers/layers.ts';
import type { Log } from '../lib/log.ts';
import { nowText } from '../lib/time.ts';
import type { LayerRecord } from '../store/records.ts';
import type { Change, Table } from '../store/tables.ts';

/** What a boot needs to bring the layers' records and the disk to agree. */
export interface LayerRecoveryParts {
  layers: Pick<Layers, 'list' | 'mounted' | 'mend' | 'bury'>;
  records: Table<LayerRecord>;
  /** The database may know less than the disk: whole layers without a record get one. */
  adoptOrphans: boolean;
  log: Log;
}

/** What came of it. */
export interface RecoveredLayers {
  /** To be committed: records that came back, changed or are gone. */
  changes: Change[];
  /** Layers that are here. */
  here: LayerRecord[];
  /** Directories without a record that are mounted. */
  retired: string[];
}

/**
 * Boot: the disk is believed over the records. A record without a tree goes; one whose directory lost a part stays, with
 * the damage noted, because containers may still run on it. A directory without a record is adopted or buried, unless it
 * is mounted. Nothing that lies there can make this throw.
 */
export async function recoverLayers(parts: LayerRecoveryParts): Promise<RecoveredLayers> {
  const { layers, records, log } = parts;
  const byDirId = new Map<string, LayerRecord>();
  for await (const [, record] of records.entries()) byDirId.set(record.dirId, record);
  const mounted = await layers.mounted();
  const here = new Map<string, LayerRecord>();
  const changes: Change[] = [];
  const strangers: LayerOnDisk[] = [];
  for await (const layer of layers.list()) {
    const record = byDirId.get(layer.dirId);
    const isSame = layer.isJunk ? layer.hasTree : layer.diffId === record?.diffId;
    if (record === undefined || !isSame) strangers.push(layer);
    else if (layer.isJunk) {
      const mended = await mend(parts, record, layer.hasTar);
      here.set(record.diffId, mended);
      if (mended !== record) changes.push(records.put(record.diffId, mended));
    } else here.set(record.diffId, record);
  }
  const wanted = new Map([...byDirId.values()].map((record) => [record.diffId, record]));
  const retired: string[] = [];
  // of two that hold the same layer, the one on which nothing runs is the newer
  const byUse = (layer: LayerOnDisk) => (mounted.has(layer.dirId) ? 1 : 0);
  for (const layer of strangers.sort((a, b) => byUse(a) - byUse(b))) {
    const known = layer.isJunk ? undefined : wanted.get(layer.diffId);
    // the records may have lost their end as well, and with it where a layer is that was brought anew
    if (!layer.isJunk && !here.has(layer.diffId) && (parts.adoptOrphans || known !== undefined)) {
      const { dirId, diffId, sizeBytes, tarBytes } = layer;
      const blobs = known?.blobs ?? [];
      const record = { dirId, diffId, sizeBytes, tarBytes, blobs, createdAt: nowText() };
      here.set(diffId, record);
      changes.push(records.put(diffId, record));
    } else if (mounted.has(layer.dirId)) retired.push(layer.dirId);
    else await bury(parts, layer);
  }
  for (const { diffId, dirId } of wanted.values()) {
    if (here.has(diffId)) continue;
    log.error({ layer: diffId, dir: dirId }, 'a layer is gone from the disk');
    changes.push(records.remove(diffId));
  }
  return { changes, here: [...here.values()], retired };
}

/** A layer whose directory is not whole: what can be written again is, and the rest is damage. */
async function mend(
  { layers, log }: LayerRecoveryParts,
  record: LayerRecord,
  hasTar: boolean,
): Promise<LayerRecord> {
  const { dirId, diffId } = record;
  log.error({ layer: diffId, dir: dirId }, 'a layer has lost a part of its directory');
  await layers.mend(record).catch((err) => log.error({ err, layer: diffId }, 'it could not be mended'));
  return hasTar || record.damage !== undefined ? record : { ...record, damage: 'its tar-split is gone' };
}

async function bury({ layers, log }: LayerRecoveryParts, { dirId, isJunk }: LayerOnDisk): Promise<void> {
  if (isJunk) log.warn({ dir: dirId }, 'removing a damaged layer directory');
  await layers.bury(dirId).catch((err) => log.error({ err, dir: dirId }, 'it could not be removed'));
}
