import { fail } from '../errors.ts';
import { TarWalker } from '../lib/tar-walker.ts';
import { VarintReader } from '../lib/varints.ts';
import type { Base } from './base.ts';
import type { DeltaLayer } from './delta-header.ts';
import { baseOf, type DeltaReader, type LayerTar } from './delta-reader.ts';
import { Effort } from './effort.ts';
import { type ColumnName, type ColumnReaders, columnNames, columnSizes, Op, unpackFrame } from './frame.ts';
import { Output, Program } from './program.ts';
import { MemberSink } from './tar-index.ts';
import { WindowCodec } from './vcdiff.ts';

export type OpName = keyof typeof Op;

/** Where the bytes of one layer of a delta go. Bytes of operations and files are shares of what was packed together. */
export interface LayerCosts {
  /** Packed bytes of each column, over all frames. */
  readonly columns: Readonly<Record<ColumnName, number>>;
  /** Bytes that frames need to be told apart. */
  readonly headBytes: number;
  /** What only the base can tell: a program runs on it. */
  readonly details?: {
    readonly operations: readonly OperationCosts[];
    /** Members of the layer by name, in its order; one of several has what all of that name cost. */
    readonly files: readonly { readonly name: string; readonly bytes: number }[];
  };
}

/** All operations of one kind. */
export interface OperationCosts {
  readonly name: OpName;
  readonly count: number;
  readonly outputBytes: number;
  readonly bytes: number;
}

/** A run of the layer's tar that one operation made. */
interface Run {
  readonly op: number;
  readonly start: number;
  readonly end: number;
  readonly cost: number;
}

/** Reads the next layer of a delta. With the base's layers, it is also decoded. */
export async function costsOf(
  reader: DeltaReader,
  layer: DeltaLayer,
  tars: readonly LayerTar[] | undefined,
): Promise<LayerCosts> {
  const totals = new Map<ColumnName, number>(columnNames.map((name) => [name, 0]));
  const places = new MemberSink({ isHashing: false });
  const walker = new TarWalker(places);
  const base = tars === undefined ? undefined : baseOf(reader.header, tars);
  const windows = base === undefined ? undefined : await WindowCodec.open();
  const runs: Run[] = [];
  let [headBytes, at] = [0, 0];
  for await (const { packed, outputBytes } of reader.frames(layer)) {
    const sizes = columnSizes(packed);
    headBytes += packed.length;
    for (const { name, packedBytes } of sizes) {
      totals.set(name, (totals.get(name) ?? 0) + packedBytes);
      headBytes -= packedBytes;
    }
    if (base === undefined || windows === undefined) continue;
    const sink = (bytes: Buffer) => walker.push(bytes);
    for (const run of runsOf(packed, outputBytes, { base, windows, sizes, sink }))
      runs.push({ ...run, start: at + run.start, end: at + run.end });
    at += outputBytes;
  }
  const columns = Object.fromEntries(totals) as Record<ColumnName, number>;
  if (base === undefined) return { columns, headBytes };
  return { columns, headBytes, details: { operations: byOperation(runs), files: byFile(runs, places) } };
}

type ColumnSizes = ReturnType<typeof columnSizes>;

/** Runs a frame's program and watches what each operation takes from the columns. */
function runsOf(
  packed: Buffer,
  outputBytes: number,
  o: { base: Base; windows: WindowCodec; sizes: ColumnSizes; sink: (bytes: Buffer) => void },
): Run[] {
  const output = new Output(outputBytes, o.sink);
  const runs: Run[] = [];
  let [op, start, spent] = [0, 0, 0];
  const settle = () => {
    const [end, all] = [outputBytes - output.left, spentOf(columns, o.sizes)];
    if (op !== 0) runs.push({ op, start, end, cost: all - spent });
    [start, spent] = [end, all];
  };
  const onNext = (read: () => number) => {
    // the program of a gzip member runs before there is any output of it
    if (op === Op.gzip && outputBytes - output.left === start) return read();
    settle();
    op = read();
    return op;
  };
  const unpacked = unpackFrame(packed);
  const columns = { ...unpacked, ops: new WatchedReader(unpacked.ops.rest(), onNext) };
  const effort = new Effort();
  o.base.chargeTo(effort);
  const program = new Program(columns, { source: o.base, windows: o.windows, effort });
  program.run(output);
  settle();
  if (!program.isDone) throw fail.corrupt('delta: a frame goes on behind its end');
  return runs;
}

/** Lets someone else see each operation, before and after it is read. */
class WatchedReader extends VarintReader {
  readonly #onNext: (read: () => number) => number;

  constructor(bytes: Buffer, onNext: (read: () => number) => number) {
    super(bytes, 'delta: ');
    this.#onNext = onNext;
  }

  override next(): number {
    return this.#onNext(() => super.next());
  }
}

/** How much of the packed columns has been used up. */
function spentOf(columns: ColumnReaders, sizes: ColumnSizes): number {
  let spent = 0;
  for (const { name, plainBytes, packedBytes } of sizes) {
    if (plainBytes > 0) spent += (packedBytes * (plainBytes - columns[name].rest().length)) / plainBytes;
  }
  return spent;
}

function byOperation(runs: readonly Run[]): OperationCosts[] {
  return Object.entries(Op).flatMap(([key, number]) => {
    const own = runs.filter(({ op }) => op === number);
    const outputBytes = own.reduce((sum, { start, end }) => sum + end - start, 0);
    const bytes = own.reduce((sum, { cost }) => sum + cost, 0);
    return own.length === 0 ? [] : [{ name: key as OpName, count: own.length, outputBytes, bytes }];
  });
}

/** What a run costs is shared out by length among the members that it reaches over. */
function byFile(runs: readonly Run[], places: MemberSink): { name: string; bytes: number }[] {
  const members = places.finish();
  const costs = new Map<string, number>();
  let first = 0;
  for (const { start, end, cost } of runs) {
    while (first < members.length && (members[first]?.end ?? 0) <= start) first++;
    let shared = 0;
    for (let at = first; at < members.length; at++) {
      const member = members[at];
      if (member === undefined || member.start >= end) break;
      const overlap = Math.min(end, member.end) - Math.max(start, member.start);
      shared += overlap;
      costs.set(member.name, (costs.get(member.name) ?? 0) + (cost * overlap) / (end - start));
    }
    const rest = end - start - shared;
    if (rest > 0) costs.set('', (costs.get('') ?? 0) + (cost * rest) / (end - start));
  }
  return [...costs].map(([name, bytes]) => ({ name, bytes }));
}
