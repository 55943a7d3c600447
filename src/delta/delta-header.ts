import { createHash } from 'node:crypto';
import * as z from 'zod/mini';
import { fail } from '../errors.ts';
import { type Digest, isDigest } from '../lib/digest.ts';
import { compress, decompress } from './brotli.ts';
import { MAX_COLUMN_BYTES, MAX_FRAME_BYTES, MIN_FRAME_BYTES } from './frame.ts';

/**
 * How a delta begins (docs/delta-format.md):
 *
 *     "SKDELTA1"                       magic with the format's version
 *     u32 bytes inflated  u32 bytes    of the header, little endian
 *     sha256                           of the header as it stands here, 32 bytes
 *     header                           brotli of JSON
 *
 * The frames follow, one behind the other.
 */
const MAGIC = Buffer.from('SKDELTA1', 'latin1');
/** So many of the first bytes tell a delta of any version from other files. */
export const MARK_BYTES = MAGIC.length - 1;
export const PREFIX_BYTES = MAGIC.length + 4 + 4 + 32;
/** A header lists layers and frames, and embeds a manifest and a config. A device parses it where it answers clients. */
export const MAX_HEADER_BYTES = 4 << 20;
const MOST_LAYERS = 512;
/** Of all layers together: enough for 128 GiB of tar. */
const MOST_FRAMES = 16_384;
const MOST_TAGS = 64;
/** A frame's hash is cut to this: the blob as a whole and the layer that comes of it are checked by all 32 bytes. */
const HASH_BYTES = 16;

const digest = z.custom<Digest>((text) => typeof text === 'string' && isDigest(text));
const bytes = z.int().check(z.nonnegative());
const frame = z.tuple([
  z.int().check(z.positive(), z.maximum(MAX_COLUMN_BYTES)),
  z.int().check(z.positive(), z.maximum(MAX_FRAME_BYTES)),
  z.string().check(z.regex(/^[A-Za-z0-9_-]{22}$/)),
]);
const tags = z.array(z.string().check(z.maxLength(512))).check(z.maxLength(MOST_TAGS));
const header = z.object({
  from: z.optional(z.object({ id: digest, tags })),
  base: z.array(z.object({ diffId: digest, tarBytes: bytes })).check(z.maxLength(MOST_LAYERS)),
  target: z.object({
    tags: z.optional(tags),
    manifestDigest: digest,
    mediaType: z.string().check(z.maxLength(255)),
    manifest: z.string(),
    config: z.string(),
  }),
  layers: z
    .array(z.object({ diffId: digest, tarBytes: bytes, frames: z.array(frame) }))
    .check(z.maxLength(MOST_LAYERS)),
});

/** A layer that the delta builds on, in the order in which the program sees them one behind the other. */
export interface BaseLayer {
  readonly diffId: Digest;
  readonly tarBytes: number;
}

/** One frame: its bytes in the delta, the bytes of tar that it makes, and the beginning of its sha256 (base64url). */
export type FrameEntry = readonly [bytes: number, outputBytes: number, hash: string];

/** A layer that the base does not have, and the frames that make its tar, in order. */
export interface DeltaLayer extends BaseLayer {
  readonly frames: readonly FrameEntry[];
}

/** The image that a delta was made from, for messages: what it builds on are the layers. */
export interface DeltaOrigin {
  /** Of the image: its config's digest. */
  readonly id: Digest;
  /** Names that it had; a stranger's text. */
  readonly tags: readonly string[];
}

/** What a delta says of itself before its first frame. */
export interface DeltaHeader {
  /** Only in a delta that is to travel as a file: whoever fetches one from a registry knows it already. */
  readonly from?: DeltaOrigin | undefined;
  readonly base: readonly BaseLayer[];
  /** The image that comes of it, so that a device need not fetch more. The texts are exact. */
  readonly target: {
    /** Names that it is to have where it is loaded from a file; a stranger's text. */
    readonly tags?: readonly string[] | undefined;
    readonly manifestDigest: Digest;
    readonly mediaType: string;
    readonly manifest: string;
    readonly config: string;
  };
  readonly layers: readonly DeltaLayer[];
}

/** All that stands before the first frame. */
export async function formatHeader(value: DeltaHeader): Promise<Buffer> {
  const plain = Buffer.from(JSON.stringify(value));
  if (plain.length > MAX_HEADER_BYTES || frameCount(value.layers) > MOST_FRAMES)
    throw fail.corrupt('delta: the image is too large for one');
  const packed = await compress(plain, 11);
  const sizes = Buffer.alloc(8);
  sizes.writeUInt32LE(plain.length, 0);
  sizes.writeUInt32LE(packed.length, 4);
  return Buffer.concat([MAGIC, sizes, createHash('sha256').update(packed).digest(), packed]);
}

/** Whether something that begins like this is a delta, of whatever version. */
export function isDelta(head: Buffer): boolean {
  return head.length >= MARK_BYTES && head.subarray(0, MARK_BYTES).equals(MAGIC.subarray(0, MARK_BYTES));
}

/** What the first `PREFIX_BYTES` say: the header's length, and how to read it. Throws `CORRUPT`. */
export function parsePrefix(prefix: Buffer): { bytes: number; parse(packed: Buffer): DeltaHeader } {
  if (prefix.length < PREFIX_BYTES || !prefix.subarray(0, MAGIC.length).equals(MAGIC))
    throw fail.corrupt('delta: this is none, or one of another version');
  const [plainBytes, packedBytes] = [prefix.readUInt32LE(8), prefix.readUInt32LE(12)];
  if (plainBytes > MAX_HEADER_BYTES || packedBytes > MAX_HEADER_BYTES)
    throw fail.corrupt('delta: its header is too large');
  const hash = Buffer.from(prefix.subarray(16, PREFIX_BYTES));
  const parse = (packed: Buffer) => {
    if (!createHash('sha256').update(packed).digest().equals(hash))
      throw fail.corrupt('delta: its header is damaged');
    return checked(decompress(packed, plainBytes));
  };
  return { bytes: packedBytes, parse };
}

/** The beginning of a frame's sha256. */
export function frameHash(packed: Buffer): string {
  return createHash('sha256').update(packed).digest().subarray(0, HASH_BYTES).toString('base64url');
}

function frameCount(layers: readonly unknown[]): number {
  return layers.reduce<number>((sum, layer) => {
    const { frames } = Object(layer);
    return sum + (Array.isArray(frames) ? frames.length : 0);
  }, 0);
}

function checked(plain: Buffer): DeltaHeader {
  let value: unknown;
  try {
    value = JSON.parse(plain.toString());
  } catch (cause) {
    throw fail.corrupt('delta: its header is no JSON', cause);
  }
  // before each of them is looked at, which takes longer
  const { layers } = Object(value);
  if (!Array.isArray(layers) || frameCount(layers) > MOST_FRAMES)
    throw fail.corrupt('delta: its header is malformed');
  const { success, data } = header.safeParse(value);
  if (!success) throw fail.corrupt('delta: its header is malformed');
  if (new Set(data.layers.map(({ diffId }) => diffId)).size < data.layers.length)
    throw fail.corrupt('delta: it makes a layer twice');
  for (const { tarBytes, frames } of data.layers) {
    if (frames.reduce((sum, [, outputBytes]) => sum + outputBytes, 0) !== tarBytes)
      throw fail.corrupt('delta: the frames of a layer do not add up');
    if (frames.slice(0, -1).some(([, outputBytes]) => outputBytes < MIN_FRAME_BYTES))
      throw fail.corrupt('delta: a frame makes too little');
  }
  return data;
}
