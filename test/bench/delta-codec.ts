/**
 * One side of the codec as a process of its own, so that it can be measured from outside; see delta.ts.
 *
 *     node delta-codec.ts encode QUALITY DELTA BASE.tar… -- TARGET.tar…
 *     node delta-codec.ts decode DELTA BASE.tar…
 */
import { createHash } from 'node:crypto';
import { closeSync, createReadStream, fstatSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { DeltaReader, type LayerTar } from '../../src/delta/delta-reader.ts';
import { encodeDelta } from '../../src/delta/encoder.ts';
import { type Digest, digestOf } from '../../src/lib/digest.ts';

const PIECE_BYTES = 1 << 20;

function tarAt(path: string): LayerTar {
  const fd = openSync(path, 'r');
  const tarBytes = fstatSync(fd).size;
  const read = (offset: number, length: number) => {
    const bytes = Buffer.allocUnsafe(Math.max(0, Math.min(length, tarBytes - offset)));
    readSync(fd, bytes, 0, bytes.length, offset);
    return bytes;
  };
  const hash = createHash('sha256');
  const piece = Buffer.alloc(PIECE_BYTES);
  for (let at = 0; at < tarBytes; at += PIECE_BYTES)
    hash.update(piece.subarray(0, readSync(fd, piece, 0, piece.length, at)));
  return { diffId: `sha256:${hash.digest('hex')}` as Digest, tarBytes, read };
}

async function encode(quality: number, path: string, base: string[], target: string[]): Promise<void> {
  // the header comes first in the file, and is known last
  const frames = openSync(`${path}.frames`, 'w+');
  let bytes = 0;
  const nothing = {
    manifest: '{}',
    config: '{}',
    manifestDigest: digestOf(Buffer.from('{}')),
    mediaType: 'none',
  };
  const header = await encodeDelta({
    base: base.map(tarAt),
    target: { ...nothing, layers: target.map(tarAt) },
    quality,
    jobs: 2,
    keep: (frame) => {
      bytes += writeSync(frames, frame);
    },
    signal: new AbortController().signal,
  });
  const delta = openSync(path, 'w');
  writeSync(delta, header);
  const piece = Buffer.alloc(PIECE_BYTES);
  for (let at = 0; at < bytes; at += piece.length)
    writeSync(delta, piece, 0, readSync(frames, piece, 0, piece.length, at));
  closeSync(frames);
  closeSync(delta);
  rmSync(`${path}.frames`);
}

async function decode(path: string, base: string[]): Promise<void> {
  const tars = base.map(tarAt);
  const reader = await DeltaReader.open(createReadStream(path));
  for (const layer of reader.header.layers) await reader.layer(layer, tars, () => {});
  await reader.end();
}

const [verb, ...rest] = process.argv.slice(2);
if (verb === 'encode') {
  const [quality, path = '', ...tars] = rest;
  const middle = tars.indexOf('--');
  await encode(Number(quality), path, tars.slice(0, middle), tars.slice(middle + 1));
} else {
  const [path = '', ...base] = rest;
  await decode(path, base);
}
