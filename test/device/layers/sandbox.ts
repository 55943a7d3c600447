import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { getXattr } from '../../../src/host/kernel.ts';
import { type ExtractedLayer, Extraction } from '../../../src/layers/extraction.ts';
import { TarSplit } from '../../../src/layers/tar-split.ts';
import { type Verdict, verifyLayer } from '../../../src/layers/verification.ts';
import type { Digest } from '../../../src/lib/digest.ts';

/** Why these tests cannot run here, if so. */
export const skip = process.getuid?.() === 0 ? false : 'needs root: owners, devices and trusted attributes';

/** A directory for a layer, and one beside it that no layer may touch. */
export class Sandbox implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'skerry-layer-'));
  readonly outside = join(this.path, 'outside');
  readonly layer = join(this.path, 'layer');
  readonly diff = join(this.layer, 'diff');
  readonly #before: Map<string, string>;

  constructor() {
    mkdirSync(join(this.outside, 'sub'), { recursive: true });
    writeFileSync(join(this.outside, 'secret'), 'do not touch');
    writeFileSync(join(this.outside, 'sub/secret'), 'nor this');
    mkdirSync(this.diff, { recursive: true });
    this.#before = treeOf(this.outside, { withTimes: true });
  }

  /** Unpacks in pieces; then the tar must come back to the byte, and nothing outside may have changed. */
  async unpack(tar: Buffer, o: { pieceBytes?: number; maxBytes?: number } = {}): Promise<ExtractedLayer> {
    const umask = process.umask(0);
    try {
      using extraction = Extraction.open({ directory: this.layer, ...o });
      const pieceBytes = o.pieceBytes ?? 10_000;
      for (let at = 0; at < tar.length; at += pieceBytes) extraction.push(tar.subarray(at, at + pieceBytes));
      const layer = extraction.finish();
      assert.equal(layer.diffId, `sha256:${createHash('sha256').update(tar).digest('hex')}`);
      assert.equal(layer.tarBytes, tar.length);
      await this.assertGivesBack(tar);
      assert.deepEqual(readdirSync(this.layer).sort(), ['diff', 'tar-split']);
      assert.deepEqual(this.verify(layer.diffId), { state: 'ok', differences: [] }, 'it passes its own test');
      return layer;
    } finally {
      process.umask(umask);
      this.assertUntouched();
    }
  }

  /** As the engine would, here and now. */
  verify(diffId: Digest): Verdict {
    return verifyLayer({ directory: this.layer, diffId }, { onPiece() {}, onEntry() {} });
  }

  async assertGivesBack(tar: Buffer): Promise<void> {
    using split = TarSplit.open(this.layer);
    const pieces: Buffer[] = [];
    for await (const piece of split.stream()) pieces.push(piece);
    assert.ok(Buffer.concat(pieces).equals(tar), 'the tar comes back to the byte');
  }

  assertUntouched(): void {
    assert.deepEqual(treeOf(this.outside, { withTimes: true }), this.#before);
    assert.deepEqual(readdirSync(this.path).sort(), ['layer', 'outside']);
  }

  /** What is in the layer, each thing on a line of its own. */
  tree(): Record<string, string> {
    return Object.fromEntries(treeOf(this.diff));
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** A sandbox for the length of a test. */
export function sandboxFor(t: TestContext): Sandbox {
  const sandbox = new Sandbox();
  t.after(() => sandbox[Symbol.dispose]());
  return sandbox;
}

/** By the type bits. A list of pairs: the formatter miscounts octal keys. */
const kinds = new Map([
  [0o140000, 'socket'],
  [0o120000, 'link'],
  [0o100000, 'file'],
  [0o060000, 'block'],
  [0o040000, 'dir'],
  [0o020000, 'char'],
  [0o010000, 'fifo'],
]);

/** Path → `kind mode owner what`; names that are not UTF-8 in Latin 1. */
export function treeOf(root: string, { withTimes = false } = {}): Map<string, string> {
  const tree = new Map<string, string>();
  const visit = (path: string) => {
    const disk = Buffer.from(`${root}/${path}`, 'latin1');
    const stats = lstatSync(disk);
    const kind = kinds.get(stats.mode & 0o170000) ?? '?';
    const facts = [kind, (stats.mode & 0o7777).toString(8).padStart(4, '0'), `${stats.uid}:${stats.gid}`];
    if (kind === 'file') facts.push(contentOf(readFileSync(disk)));
    if (kind === 'link') facts.push(`-> ${readlinkSync(disk, 'latin1')}`);
    if (kind === 'char' || kind === 'block') facts.push(`${stats.rdev >> 8},${stats.rdev & 0xff}`);
    if (kind === 'dir' && getXattr(disk, 'trusted.overlay.opaque') !== undefined) facts.push('opaque');
    if (withTimes) facts.push(String(stats.mtimeMs), String(stats.nlink), String(stats.ino));
    if (path !== '') tree.set(path, facts.join(' '));
    else if (facts.includes('opaque') || withTimes) tree.set('.', facts.join(' '));
    if (kind !== 'dir') return;
    for (const name of readdirSync(disk, 'latin1').sort()) visit(path === '' ? name : `${path}/${name}`);
  };
  visit('');
  return tree;
}

function contentOf(content: Buffer): string {
  return content.length < 60 ? JSON.stringify(content.toString('latin1')) : `${content.length} bytes`;
}
