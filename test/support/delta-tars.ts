import { gzipSync } from 'node:zlib';
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

/** Layers of a small system before and after an update, with a delta of some 100 kB between them. */
export function realisticLayers(): { base: LayerTar[]; target: LayerTar[] } {
  const program = (seed: number) => noise(180_000, seed);
  const relinked = (bytes: Buffer, step: number) => {
    const moved = Buffer.from(bytes);
    for (let at = 64; at + 4 < moved.length; at += 48)
      moved.writeInt32LE((moved.readInt32LE(at) + step) | 0, at);
    return moved;
  };
  const packed = (bytes: number, variety: number) => gzipSync(text(bytes, variety), { level: 9 });
  const libraries = [1, 2, 3, 4, 5, 6];
  const old = layerOf([
    { name: 'usr/', type: '5' },
    ...libraries.map((n) => ({ name: `usr/lib${n}.so.1`, content: program(n), mode: 0o755 })),
    ...libraries.map((n) => ({ name: `usr/doc${n}.gz`, content: packed(30_000, 400 + n) })),
    { name: 'usr/link', type: '2', linkName: 'lib1.so.1' },
  ]);
  const young = layerOf([
    { name: 'usr/', type: '5', mtime: 1_700_100_000 },
    ...libraries.map((n) => ({
      name: `usr/lib${n}.so.${n % 3 === 0 ? 2 : 1}`,
      content: n % 3 === 0 ? relinked(program(n), 0x140 + n) : program(n),
      mtime: 1_700_100_000,
      mode: 0o755,
    })),
    ...libraries.map((n) => ({
      name: `usr/doc${n}.gz`,
      content: packed(n % 2 === 0 ? 30_000 : 30_500, 400 + n),
      mtime: 1_700_100_000,
    })),
    { name: 'usr/added', content: noise(70_000, 77) },
  ]);
  const [app, newApp] = [
    text(400_000, 50),
    Buffer.concat([text(200_000, 50), noise(25_000, 8), text(210_000, 51)]),
  ];
  return {
    base: [old, layerOf([{ name: 'srv/app', content: app }])],
    target: [young, layerOf([{ name: 'srv/app', content: newApp }])],
  };
}
