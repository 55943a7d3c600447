/** What chance and malice do to a delta: bytes as a bad disk has them, and deltas that an attacker has sealed anew. */
import fc from 'fast-check';
import { compress } from '../../src/delta/brotli.ts';
import {
  type DeltaHeader,
  type DeltaLayer,
  type FrameEntry,
  formatHeader,
  frameHash,
  PREFIX_BYTES,
  parsePrefix,
} from '../../src/delta/delta-header.ts';
import { columnNames, packFrame, unpackFrame } from '../../src/delta/frame.ts';

/** A change of bytes, wherever they stand; `at` and the others count round and round. */
export type Wound =
  | { kind: 'flip'; at: number; bit: number }
  | { kind: 'cut'; at: number }
  | { kind: 'insert'; at: number; bytes: Uint8Array }
  | { kind: 'remove'; at: number; length: number }
  | { kind: 'swap'; at: number; to: number; length: number }
  | { kind: 'zero'; at: number; length: number };

/** A change behind which all hashes are made anew: only limits, sense and the layer's own digest can tell. */
export type Forgery =
  | { kind: 'column'; frame: number; column: number; wound: Wound }
  | { kind: 'frame bytes'; frame: number; value: number }
  | { kind: 'frame output'; frame: number; value: number; isBalanced: boolean }
  | { kind: 'frames exchanged'; frame: number; other: number }
  | { kind: 'frame dropped'; frame: number }
  | { kind: 'base size'; at: number; value: number }
  | { kind: 'base dropped'; at: number }
  | { kind: 'base turned round' }
  | { kind: 'layers exchanged' }
  | { kind: 'digests exchanged' }
  | { kind: 'document'; isConfig: boolean; wound: Wound };

export type Mutation = { wounds: readonly Wound[] } | { forgeries: readonly Forgery[] };

const bytes = fc.nat({ max: 1 << 30 });
const length = fc.oneof(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 70_000 }));
const wound: fc.Arbitrary<Wound> = fc.oneof(
  fc.record({ kind: fc.constant('flip' as const), at: bytes, bit: fc.nat(7) }),
  fc.record({ kind: fc.constant('cut' as const), at: bytes }),
  fc.record({
    kind: fc.constant('insert' as const),
    at: bytes,
    bytes: fc.uint8Array({ minLength: 1, maxLength: 64 }),
  }),
  fc.record({ kind: fc.constant('remove' as const), at: bytes, length }),
  fc.record({ kind: fc.constant('swap' as const), at: bytes, to: bytes, length }),
  fc.record({ kind: fc.constant('zero' as const), at: bytes, length }),
);
/** Numbers that break what is computed with them. */
const value = fc.oneof(
  fc.nat(1 << 24),
  fc.constantFrom(0, 1, 511, 512, 2 ** 24, 2 ** 24 + 1, 2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER),
);
const frame = fc.nat(7);
const forgery: fc.Arbitrary<Forgery> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({ kind: fc.constant('column' as const), frame, column: fc.nat(6), wound }),
  },
  fc.record({ kind: fc.constant('frame bytes' as const), frame, value }),
  fc.record({ kind: fc.constant('frame output' as const), frame, value, isBalanced: fc.boolean() }),
  fc.record({ kind: fc.constant('frames exchanged' as const), frame, other: frame }),
  fc.record({ kind: fc.constant('frame dropped' as const), frame }),
  fc.record({ kind: fc.constant('base size' as const), at: frame, value }),
  fc.record({ kind: fc.constant('base dropped' as const), at: frame }),
  fc.record({ kind: fc.constant('base turned round' as const) }),
  fc.record({ kind: fc.constant('layers exchanged' as const) }),
  fc.record({ kind: fc.constant('digests exchanged' as const) }),
  fc.record({ kind: fc.constant('document' as const), isConfig: fc.boolean(), wound }),
);

/** Half of them wounds, half of them forgeries; one or a few. */
export const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.record({ wounds: fc.array(wound, { minLength: 1, maxLength: 3 }) }),
  fc.record({ forgeries: fc.array(forgery, { minLength: 1, maxLength: 3 }) }),
);

/** A delta that this has happened to. */
export async function mutated(delta: Buffer, change: Mutation): Promise<Buffer> {
  if ('wounds' in change) return change.wounds.reduce(wounded, delta);
  let open = opened(delta);
  for (const one of change.forgeries) open = await forged(open, one);
  return sealed(open);
}

interface Frame {
  readonly packed: Buffer;
  readonly outputBytes: number;
  /** What the header says of its length, if that is a lie. */
  readonly saidBytes?: number;
}

interface OpenDelta {
  readonly header: DeltaHeader;
  readonly layers: readonly (Omit<DeltaLayer, 'frames'> & { readonly frames: readonly Frame[] })[];
}

function opened(delta: Buffer): OpenDelta {
  const { bytes: headerBytes, parse } = parsePrefix(delta.subarray(0, PREFIX_BYTES));
  let at = PREFIX_BYTES + headerBytes;
  const header = parse(delta.subarray(PREFIX_BYTES, at));
  const layers = header.layers.map(({ frames, ...layer }) => ({
    ...layer,
    frames: frames.map(([frameBytes, outputBytes]) => {
      at += frameBytes;
      return { packed: delta.subarray(at - frameBytes, at), outputBytes };
    }),
  }));
  return { header, layers };
}

async function sealed({ header, layers }: OpenDelta): Promise<Buffer> {
  const entry = ({ packed, outputBytes, saidBytes }: Frame): FrameEntry => [
    saidBytes ?? packed.length,
    outputBytes,
    frameHash(packed),
  ];
  const listed = layers.map((layer) => ({ ...layer, frames: layer.frames.map(entry) }));
  const frames = layers.flatMap((layer) => layer.frames.map(({ packed }) => packed));
  return Buffer.concat([await formatHeader({ ...header, layers: listed }), ...frames]);
}

function wounded(whole: Buffer, hurt: Wound): Buffer {
  if (whole.length === 0) return whole;
  const at = hurt.at % whole.length;
  const copy = Buffer.from(whole);
  switch (hurt.kind) {
    case 'flip':
      copy[at] = (copy[at] ?? 0) ^ (1 << hurt.bit);
      return copy;
    case 'cut':
      return copy.subarray(0, at);
    case 'insert':
      return Buffer.concat([whole.subarray(0, at), hurt.bytes, whole.subarray(at)]);
    case 'remove':
      return Buffer.concat([whole.subarray(0, at), whole.subarray(at + hurt.length)]);
    case 'zero':
      return copy.fill(0, at, Math.min(copy.length, at + hurt.length));
    case 'swap': {
      const to = hurt.to % whole.length;
      const size = Math.min(hurt.length, whole.length - Math.max(at, to));
      whole.copy(copy, at, to, to + size);
      whole.copy(copy, to, at, at + size);
      return copy;
    }
  }
}

async function forged(open: OpenDelta, change: Forgery): Promise<OpenDelta> {
  const { header, layers } = open;
  const { base, target } = header;
  const withHeader = (more: Partial<DeltaHeader>) => ({ ...open, header: { ...header, ...more } });
  switch (change.kind) {
    case 'column':
      return withFrame(open, change.frame, (one) => withColumn(one, change));
    case 'frame bytes':
      return withFrame(open, change.frame, (one) => ({ ...one, saidBytes: change.value }));
    case 'frame output': {
      const changed = await withFrame(open, change.frame, (one) => ({ ...one, outputBytes: change.value }));
      if (!change.isBalanced) return changed;
      const sum = (frames: readonly Frame[]) => frames.reduce((total, one) => total + one.outputBytes, 0);
      return { header, layers: changed.layers.map((layer) => ({ ...layer, tarBytes: sum(layer.frames) })) };
    }
    case 'frames exchanged': {
      const all = layers.flatMap(({ frames }) => frames);
      const [one, other] = [change.frame, change.other].map((at) => all[at % all.length]);
      const turned = (each: Frame) => (each === one ? other : each === other ? one : each) ?? each;
      return { header, layers: layers.map((layer) => ({ ...layer, frames: layer.frames.map(turned) })) };
    }
    case 'frame dropped': {
      const all = layers.flatMap(({ frames }) => frames);
      const dropped = all[change.frame % all.length];
      const kept = (frames: readonly Frame[]) => frames.filter((each) => each !== dropped);
      return { header, layers: layers.map((layer) => ({ ...layer, frames: kept(layer.frames) })) };
    }
    case 'base size':
      return withHeader({
        base: base.map((one, at) =>
          at === change.at % base.length ? { ...one, tarBytes: change.value } : one,
        ),
      });
    case 'base dropped':
      return withHeader({ base: base.filter((_, at) => at !== change.at % base.length) });
    case 'base turned round':
      return withHeader({ base: base.toReversed() });
    case 'layers exchanged':
      return { header, layers: layers.toReversed() };
    case 'digests exchanged': {
      const digests = layers.map(({ diffId }) => diffId).toReversed();
      return {
        header,
        layers: layers.map((layer, at) => ({ ...layer, diffId: digests[at] ?? layer.diffId })),
      };
    }
    case 'document': {
      const name = change.isConfig ? 'config' : 'manifest';
      const text = wounded(Buffer.from(target[name]), change.wound).toString();
      return withHeader({ target: { ...target, [name]: text } });
    }
  }
}

async function withFrame(
  { header, layers }: OpenDelta,
  frame: number,
  change: (one: Frame) => Frame | Promise<Frame>,
): Promise<OpenDelta> {
  const all = layers.flatMap(({ frames }) => frames);
  const meant = all[frame % all.length];
  if (meant === undefined) return { header, layers };
  const changed = await change(meant);
  const swapped = (each: Frame) => (each === meant ? changed : each);
  return { header, layers: layers.map((layer) => ({ ...layer, frames: layer.frames.map(swapped) })) };
}

/** The frame with one of its columns changed, packed as its maker would. */
async function withColumn(
  frame: Frame,
  { column, wound: hurt }: { column: number; wound: Wound },
): Promise<Frame> {
  const readers = unpackFrame(frame.packed);
  const columns = columnNames.map((name, at) => {
    const whole = Buffer.from(readers[name].rest());
    return at === column ? wounded(whole, hurt) : whole;
  });
  return { ...frame, packed: await packFrame(columns, (plain) => compress(plain, 1)) };
}
