import { costsOf, type LayerCosts, type OperationCosts } from '../delta/costs.ts';
import type { DeltaHeader } from '../delta/delta-header.ts';
import { DeltaReader } from '../delta/delta-reader.ts';
import type { Arguments } from '../lib/arguments.ts';
import { type Digest, shortDigest } from '../lib/digest.ts';
import { formatPlatform } from '../lib/platform.ts';
import { formatBytes } from '../lib/progress-bar.ts';
import { textOf, withSources } from './delta-context.ts';
import { type DeltaSource, openDelta } from './delta-source.ts';
import { targetOf, unpackBase } from './delta-target.ts';
import { openImage } from './source-image.ts';
import { table } from './table.ts';
import type { Terminal } from './terminal.ts';

const MOST_FILES = 10;

/** What is known of a delta. Files and operations are known only with the base, and their bytes are shares. */
interface Inspected {
  readonly name: string;
  readonly bytes: number;
  readonly target: {
    readonly id: Digest;
    readonly manifest: Digest;
    readonly platform: string;
    /** What it is called where the delta is loaded from a file. */
    readonly tags: readonly string[];
  };
  /** The image that it was made from, as its registry or its file has it. */
  readonly baseId?: Digest;
  readonly baseTags?: readonly string[];
  readonly base: readonly { readonly diffId: Digest; readonly tarBytes: number }[];
  readonly fullBytes: number;
  /** The header, with the target's manifest and config in it. */
  readonly headerBytes: number;
  readonly layers: readonly InspectedLayer[];
  /** Packed bytes. */
  readonly columns: Readonly<Record<string, number>>;
  readonly operations?: readonly OperationCosts[];
  /** The costliest. */
  readonly files?: readonly { readonly name: string; readonly bytes: number }[];
}

interface InspectedLayer {
  readonly diffId: Digest;
  readonly tarBytes: number;
  /** What a pull of it would fetch. */
  readonly fullBytes: number;
  readonly bytes: number;
  readonly frames: number;
}

/** Shows where the bytes of a delta go. */
export async function inspectDelta(call: Arguments, terminal: Terminal): Promise<number> {
  const { values, rest } = call;
  return withSources(call, terminal, async (context) => {
    const source = await openDelta(rest[0] ?? '', context);
    const reader = await DeltaReader.open(source.open());
    const { header } = reader;
    const facts = factsOf(source, header);
    const baseName = textOf(values, 'base');
    const tars =
      baseName === undefined
        ? undefined
        : await unpackBase(await openImage(baseName, context), header, {
            isWhole: false,
            context,
            stderr: terminal.stderr,
          });
    const costs: LayerCosts[] = [];
    for (const layer of header.layers) {
      context.signal.throwIfAborted();
      costs.push(await costsOf(reader, layer, tars));
    }
    await reader.end();
    const inspected = { ...facts, ...sumOf(costs) };
    terminal.stdout.write(
      values.get('json') === true ? `${JSON.stringify(inspected, undefined, 2)}\n` : describe(inspected),
    );
    return 0;
  });
}

function factsOf({ name, bytes, facts }: DeltaSource, header: DeltaHeader): Omit<Inspected, 'columns'> {
  const target = targetOf(header);
  const packed = new Map(target.layers.map(({ diffId, size }) => [diffId, size]));
  const layers = header.layers.map(({ diffId, tarBytes, frames }) => ({
    diffId,
    tarBytes,
    fullBytes: packed.get(diffId) ?? 0,
    bytes: frames.reduce((sum, [frameBytes]) => sum + frameBytes, 0),
    frames: frames.length,
  }));
  return {
    name,
    bytes,
    target: {
      id: target.id,
      manifest: header.target.manifestDigest,
      platform: formatPlatform(target.platform),
      tags: header.target.tags ?? [],
    },
    ...(facts && { baseId: facts.baseId }),
    ...(header.from && { baseId: header.from.id, baseTags: header.from.tags }),
    base: header.base,
    fullBytes: layers.reduce((sum, layer) => sum + layer.fullBytes, 0),
    headerBytes: bytes - layers.reduce((sum, layer) => sum + layer.bytes, 0),
    layers,
  };
}

function sumOf(costs: readonly LayerCosts[]): Pick<Inspected, 'columns' | 'operations' | 'files'> {
  const columns: Record<string, number> = {};
  const operations = new Map<string, OperationCosts>();
  const files = new Map<string, number>();
  for (const { columns: own, headBytes, details } of costs) {
    for (const [name, bytes] of [...Object.entries(own), ['frames', headBytes] as const])
      columns[name] = (columns[name] ?? 0) + bytes;
    for (const each of details?.operations ?? [])
      operations.set(each.name, addOperation(operations.get(each.name), each));
    for (const { name, bytes } of details?.files ?? []) files.set(name, (files.get(name) ?? 0) + bytes);
  }
  if (costs.every(({ details }) => details === undefined)) return { columns };
  const byBytes = (one: { bytes: number }, other: { bytes: number }) => other.bytes - one.bytes;
  return {
    columns,
    operations: [...operations.values()]
      .map((each) => ({ ...each, bytes: Math.round(each.bytes) }))
      .sort(byBytes),
    files: [...files]
      .map(([name, bytes]) => ({ name, bytes: Math.round(bytes) }))
      .sort(byBytes)
      .slice(0, MOST_FILES),
  };
}

function addOperation(before: OperationCosts | undefined, added: OperationCosts): OperationCosts {
  if (before === undefined) return added;
  return {
    name: added.name,
    count: before.count + added.count,
    outputBytes: before.outputBytes + added.outputBytes,
    bytes: before.bytes + added.bytes,
  };
}

function describe(o: Inspected): string {
  const instead = o.fullBytes === 0 ? '' : ` instead of ${formatBytes(o.fullBytes)}`;
  const head = [
    ['Delta:', `${o.name}, ${formatBytes(o.bytes)}${instead}`],
    ['Target:', `${o.target.id} (${o.target.platform})`],
    ['Manifest:', o.target.manifest],
    ...o.target.tags.map((tag) => ['Loads as:', printable(tag)]),
    ['Base:', [o.baseId ?? 'any image with these layers', ...(o.baseTags ?? []).map(printable)].join(', ')],
    ...o.base.map(({ diffId, tarBytes }) => ['', `${diffId}, ${formatBytes(tarBytes)}`]),
    ['Header:', `${formatBytes(o.headerBytes)}, with the manifest and the config of the target`],
  ];
  const layers = o.layers.map(({ diffId, tarBytes, fullBytes, bytes, frames }) => [
    shortDigest(diffId),
    formatBytes(tarBytes),
    formatBytes(fullBytes),
    formatBytes(bytes),
    String(frames),
  ]);
  const columns = Object.entries(o.columns).map(([name, bytes]) => [name, formatBytes(bytes)]);
  const parts = [
    table(head),
    table([['LAYER', 'TAR', 'PULL', 'DELTA', 'FRAMES'], ...layers]),
    table([['COLUMN', 'BYTES'], ...columns]),
  ];
  const { operations, files } = o;
  if (operations === undefined || files === undefined)
    return `${parts.join('\n')}\nWith --base IMAGE: the bytes by operation, and the ten files that cost most.\n`;
  const rows = operations.map(({ name, count, outputBytes, bytes }) => [
    name,
    String(count),
    formatBytes(outputBytes),
    formatBytes(bytes),
  ]);
  parts.push(table([['OPERATION', 'COUNT', 'MAKES', 'ABOUT'], ...rows]));
  // names are a stranger's bytes: what could move a terminal's cursor is not shown
  const shown = files.map(({ name, bytes }) => [
    formatBytes(bytes),
    name === '' ? '(the end of the archive)' : printable(Buffer.from(name, 'latin1').toString()),
  ]);
  parts.push(table([['ABOUT', 'FILE'], ...shown]));
  return parts.join('\n');
}

function printable(name: string): string {
  return name.replace(/\p{C}/gu, '?');
}
