import type { LayerTar } from '../../src/delta/delta-reader.ts';
import { digestOf } from '../../src/lib/digest.ts';
import { archive, type Member } from './tar-archive.ts';

/** A tar at hand as a layer. */
export function layerTar(tar: Buffer): LayerTar {
  return {
    diffId: digestOf(tar),
    tarBytes: tar.length,
    read: (offset, length) => Buffer.from(tar.subarray(offset, offset + length)),
  };
}

export function layerOf(members: readonly (Member | Buffer)[], end: Buffer = Buffer.alloc(1024)): LayerTar {
  return layerTar(Buffer.concat([archive(members, Buffer.alloc(0)), end]));
}

/** Bytes that follow from the seed, and that no compressor makes smaller. */
export function noise(bytes: number, seed = 7): Buffer {
  let state = seed + 1;
  const all = Uint8Array.from({ length: bytes }, () => {
    state = Math.imul(state, 16807) >>> 0;
    return state >>> 13;
  });
  return Buffer.from(all);
}

/** Text with repetitions near and far, of an entropy that the variety sets. */
export function text(bytes: number, variety: number): Buffer {
  let state = bytes * 31 + variety;
  const words: string[] = [];
  for (let size = 0; size < bytes; ) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    const word = `${(state >>> 8) % variety} line ${(state >>> 16) % 7}\n`;
    words.push(word);
    size += word.length;
  }
  return Buffer.from(words.join('')).subarray(0, bytes);
}
