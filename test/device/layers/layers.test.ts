import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { fail } from '../../../src/errors.ts';
import { mount, unmount } from '../../../src/host/kernel.ts';
import { type LayerOnDisk, Layers, type StagedLayer } from '../../../src/layers/layers.ts';
import { type Digest, digestOf } from '../../../src/lib/digest.ts';
import { silentLog } from '../../../src/lib/log.ts';
import { archive } from '../../support/tar-archive.ts';
import { skip } from './sandbox.ts';

const childPath = fileURLToPath(new URL('../../../src/layers/extract-layer.ts', import.meta.url));

const small = archive([
  { name: 'etc/', type: '5' },
  { name: 'etc/hosts', content: '127.0.0.1 localhost\n' },
  { name: 'etc/.wh.gone' },
  { name: 'etc/hosts', content: 'again\n' },
]);
/** Does not fit any buffer on the way, so the child is busy with it for a while. */
const big = archive([{ name: 'noise', content: randomBytes(24 << 20) }]);

interface World {
  dataRoot: string;
  layers: Layers;
  extract(input: Readable | Buffer, o?: Partial<Parameters<Layers['extract']>[1]>): Promise<StagedLayer>;
  /** Everything in `staging/`, and the children that are still there. */
  leftovers(): string[];
}

async function worldFor(t: TestContext, o: { parallel?: number; childPath?: string } = {}): Promise<World> {
  const dataRoot = mkdtempSync(join(tmpdir(), 'skerry-layers-'));
  t.after(() => rmSync(dataRoot, { recursive: true, force: true }));
  const layers = await Layers.open({ dataRoot, childPath, parallel: 2, log: silentLog, ...o });
  return {
    dataRoot,
    layers,
    extract: (input, more = {}) =>
      layers.extract(Buffer.isBuffer(input) ? Readable.from([input]) : input, {
        leaseId: 'lease',
        compression: 'auto',
        diffId: digestOf(small),
        signal: t.signal,
        ...more,
      }),
    leftovers: () => [...readdirSync(join(dataRoot, 'staging')), ...childrenOf(join(dataRoot, 'staging'))],
  };
}

async function listed(layers: Layers): Promise<LayerOnDisk[]> {
  const all: LayerOnDisk[] = [];
  for await (const layer of layers.list()) all.push(layer);
  return all;
}

/** Children that work below this directory. */
function childrenOf(directory: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(directory);
    } catch {
      return false;
    }
  });
}

/** Gives its bytes in pieces and then waits for ever, or fails. */
function cut(bytes: Buffer, at: number, error?: Error): PassThrough {
  const stream = new PassThrough();
  stream.write(bytes.subarray(0, at));
  if (error !== undefined) setTimeout(() => stream.destroy(error), 150);
  return stream;
}

describe('layers', { skip }, () => {
  test('a layer goes in, is listed, and its tar comes out', async (t) => {
    const { layers, extract, leftovers, dataRoot } = await worldFor(t);
    const staged = await extract(gzipSync(small));
    assert.deepEqual(leftovers(), ['lease']);
    const layer = await layers.publish(staged);
    assert.deepEqual(leftovers(), []);
    assert.deepEqual(layer, {
      dirId: staged.dirId,
      diffId: digestOf(small),
      sizeBytes: 6,
      tarBytes: small.length,
    });
    assert.match(layer.dirId, /^[0-9a-v]{13}$/);
    assert.deepEqual(await listed(layers), [{ ...layer, isJunk: false }]);
    assert.ok((await buffer(layers.tar(layer.dirId))).equals(small));
    assert.equal((await layers.verify(layer.dirId, layer.diffId)).state, 'ok');
    assert.equal(readFileSync(join(dataRoot, 'layers', layer.dirId, 'diff/etc/hosts'), 'utf8'), 'again\n');
    assert.equal(statSync(join(dataRoot, 'layers')).mode & 0o777, 0o700);

    const again = await Layers.open({ dataRoot, childPath, parallel: 1, log: silentLog });
    assert.deepEqual(await listed(again), [{ ...layer, isJunk: false }]);
  });

  const zstd = zstdCompressSync(small.subarray(0, 700));
  const rest = zstdCompressSync(small.subarray(700));
  const skippable = Buffer.concat([Buffer.from([0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0]), Buffer.from('abc')]);
  const packings: Record<string, ['gzip' | 'zstd' | 'none', Buffer]> = {
    gzip: ['gzip', gzipSync(small)],
    'gzip of two members': [
      'gzip',
      Buffer.concat([gzipSync(small.subarray(0, 700)), gzipSync(small.subarray(700))]),
    ],
    zstd: ['zstd', zstdCompressSync(small)],
    'zstd of several frames': ['zstd', Buffer.concat([skippable, zstd, skippable, rest, skippable])],
    plain: ['none', small],
  };
  for (const [name, [compression, bytes]] of Object.entries(packings)) {
    test(`compression: ${name}, told or found out`, async (t) => {
      const { extract } = await worldFor(t);
      for (const told of [compression, 'auto'] as const)
        assert.equal((await extract(bytes, { compression: told })).tarBytes, small.length);
      const single = Readable.from(Array.from(bytes, (byte) => Buffer.from([byte])));
      assert.equal((await extract(single)).tarBytes, small.length);
    });

    test(`compression: ${name}, cut`, async (t) => {
      const { extract, leftovers } = await worldFor(t);
      for (const length of [0, 3, Math.floor(bytes.length / 2), bytes.length - 2])
        await assert.rejects(
          extract(bytes.subarray(0, length), { compression }),
          { code: 'CORRUPT' },
          `${length}`,
        );
      assert.deepEqual(leftovers(), []);
    });
  }

  const refused: Record<string, { input: Buffer; more?: object; code?: string; message: RegExp }> = {
    'another tar than was promised': {
      input: small,
      more: { diffId: digestOf('other') },
      message: /verification failed/,
    },
    'no tar at all': { input: Buffer.alloc(4096, 'x'), message: /invalid tar/ },
    'gzip that is none': { input: small, more: { compression: 'gzip' }, message: /invalid gzip data/ },
    'zstd that is none': { input: small, more: { compression: 'zstd' }, message: /invalid zstd data/ },
    'gzip with a flipped bit': { input: gzipSync(small).fill(0xff, 40, 44), message: /invalid/ },
    'a bomb': {
      input: gzipSync(archive([{ name: 'b', content: Buffer.alloc(30 << 20) }])),
      more: { maxBytes: async () => 1 << 20 },
      code: 'LAYER_TOO_LARGE',
      message: /larger than 1048576/,
    },
    'a hostile name': { input: archive([{ name: '.wh.' }]), message: /invalid whiteout/ },
  };
  for (const [name, { input, more, code = 'CORRUPT', message }] of Object.entries(refused)) {
    test(`refused, and nothing left: ${name}`, async (t) => {
      const { extract, leftovers } = await worldFor(t);
      await assert.rejects(extract(input, more), { code, message });
      assert.deepEqual(leftovers(), []);
    });
  }

  test('an input that fails is told with its own error, and nothing is left', async (t) => {
    const { extract, leftovers } = await worldFor(t);
    const error = fail.registry('the blob is not what it should be');
    for (const bytes of [small, gzipSync(small), big, gzipSync(big, { level: 1 })]) {
      for (const at of [0, 100, bytes.length])
        await assert.rejects(
          extract(cut(bytes, at, error), { diffId: digestOf(bytes) }),
          (cause) => cause === error,
          `${at}`,
        );
    }
    assert.deepEqual(leftovers(), []);
  });

  test('an input that has failed before its turn came', async (t) => {
    const { extract, leftovers } = await worldFor(t, { parallel: 1 });
    const abort = new AbortController();
    const first = extract(cut(big, 1000), { signal: abort.signal });
    const error = fail.registry('gone');
    const broken = new PassThrough();
    const second = extract(broken);
    broken.destroy(error);
    await sleep(100);
    abort.abort(new Error('enough'));
    await assert.rejects(first, /enough/);
    await assert.rejects(second, (cause) => cause === error);
    assert.deepEqual(leftovers(), []);
  });

  test('aborted: at once, while waiting, in the middle', async (t) => {
    const { extract, leftovers } = await worldFor(t, { parallel: 1 });
    const reason = new Error('the client left');
    const inputs = [cut(big, big.length - 5000), cut(big, 1)];
    const never = cut(big, 1);
    await assert.rejects(extract(never, { signal: AbortSignal.abort(reason) }), (cause) => cause === reason);
    const abort = new AbortController();
    const [running, waiting] = inputs.map(async (input) => {
      await assert.rejects(extract(input, { signal: abort.signal }), (cause) => cause === reason);
    });
    await sleep(600);
    assert.equal(leftovers().length, 2, 'one directory, one child');
    abort.abort(reason);
    await Promise.all([running, waiting]);
    assert.deepEqual(leftovers(), []);
    for (const input of [never, ...inputs])
      assert.equal(input.destroyed, true, 'a download must not go on for nobody');
  });

  test('a child that is killed half-way', async (t) => {
    const { extract, leftovers, dataRoot } = await worldFor(t);
    const running = extract(cut(big, big.length - 5000));
    const outcome = assert.rejects(running, { code: 'HOST', message: /ended with SIGKILL/ });
    await sleep(600);
    const [pid] = childrenOf(dataRoot);
    assert.ok(pid !== undefined);
    process.kill(Number(pid), 'SIGKILL');
    await outcome;
    assert.deepEqual(leftovers(), []);
  });

  test('a child that cannot run', async (t) => {
    const { extract, leftovers } = await worldFor(t, { childPath: '/nonexistent/program.js' });
    await assert.rejects(extract(small), { code: 'HOST', message: /Cannot find module/ });
    assert.deepEqual(leftovers(), []);
  });

  test('at most so many at once', async (t) => {
    const { extract, dataRoot } = await worldFor(t, { parallel: 2 });
    const inputs = Array.from({ length: 4 }, () => cut(gzipSync(small), 20));
    const all = inputs.map((input) => extract(input));
    await sleep(600);
    assert.equal(childrenOf(dataRoot).length, 2);
    for (const input of inputs) input.end(gzipSync(small).subarray(20));
    assert.equal(new Set((await Promise.all(all)).map(({ dirId }) => dirId)).size, 4);
  });

  test('progress counts compressed bytes up to the last', async (t) => {
    const { extract } = await worldFor(t);
    const compressed = gzipSync(big, { level: 1 });
    const pieces = async function* () {
      for (let at = 0; at < compressed.length; at += 1 << 20) {
        yield compressed.subarray(at, at + (1 << 20));
        await sleep(20);
      }
    };
    const seen: number[] = [];
    await extract(Readable.from(pieces()), {
      diffId: digestOf(big),
      onProgress: (bytes) => seen.push(bytes),
    });
    assert.equal(seen.at(-1), compressed.length);
    assert.ok(seen.length > 2);
    assert.deepEqual(
      seen,
      seen.toSorted((a, b) => a - b),
    );
  });

  test('junk is listed as junk, and goes', async (t) => {
    const { layers, extract, dataRoot } = await worldFor(t);
    const harms: Record<string, (directory: string) => void> = {
      'no record': (directory) => unlinkSync(join(directory, 'layer.json')),
      'an empty record': (directory) => writeFileSync(join(directory, 'layer.json'), ''),
      'half a record': (directory) =>
        writeFileSync(join(directory, 'layer.json'), '{"version":1,"diffId":"sha256:'),
      'no tar-split': (directory) => unlinkSync(join(directory, 'tar-split')),
      'an empty tar-split': (directory) => writeFileSync(join(directory, 'tar-split'), ''),
      'no tree': (directory) => rmSync(join(directory, 'diff'), { recursive: true }),
    };
    for (const harm of Object.values(harms)) {
      const { dirId } = await layers.publish(await extract(small));
      harm(join(dataRoot, 'layers', dirId));
    }
    mkdirSync(join(dataRoot, 'layers/empty'));
    writeFileSync(join(dataRoot, 'layers/file'), '');
    const found = await listed(layers);
    assert.equal(found.length, Object.keys(harms).length + 2);
    for (const layer of found) {
      assert.equal(layer.isJunk, true);
      await layers.remove(layer.dirId);
    }
    assert.deepEqual(await listed(layers), []);
    assert.deepEqual(readdirSync(join(dataRoot, 'staging')), []);
  });

  test('removal: absent is fine, and names that lead elsewhere are not', async (t) => {
    const { layers } = await worldFor(t);
    await layers.remove('none');
    for (const name of ['..', '.', '', 'a/b', '/etc'])
      await assert.rejects(layers.remove(name), /no directory ID/);
  });

  test('damage is found by verify, and never passes for the tar', async (t) => {
    const { layers, extract, dataRoot } = await worldFor(t);
    const tar = archive([{ name: 'f', content: 'the content', mtime: 1_700_000_000 }]);
    const diffId = digestOf(tar);
    const { dirId } = await layers.publish(await extract(tar, { diffId }));
    const file = join(dataRoot, 'layers', dirId, 'diff/f');
    const stateOf = async (id = dirId) => (await layers.verify(id, diffId)).state;
    writeFileSync(file, 'the CONTENT');
    assert.equal(await stateOf(), 'damaged');
    writeFileSync(file, '');
    await assert.rejects(buffer(layers.tar(dirId)), { code: 'CORRUPT' });
    unlinkSync(file);
    assert.match((await layers.verify(dirId, diffId)).differences.join(), /ENOENT.*diff\/f/);
    assert.equal(await stateOf('none'), 'missing');
    writeFileSync(file, 'the content');
    utimesSync(file, 1_700_000_000, 1_700_000_000);
    utimesSync(dirname(file), 1_700_000_000, 1_700_000_000);
    assert.equal(await stateOf(), 'ok');
    const signal = AbortSignal.abort(new Error('stop'));
    await assert.rejects(layers.verify(dirId, diffId, { signal }), /stop/);
  });

  test('verifying tells how far it is, and ends with who asked for it', async (t) => {
    const { layers, extract, dataRoot, leftovers } = await worldFor(t);
    const { dirId, diffId } = await layers.publish(await extract(big, { diffId: digestOf(big) }));
    const told: number[] = [];
    const { state } = await layers.verify(dirId, diffId, { onProgress: (bytes) => told.push(bytes) });
    assert.equal(state, 'ok');
    assert.equal(told.at(-1), big.length);
    assert.deepEqual(
      told,
      told.toSorted((a, b) => a - b),
    );
    const abort = new AbortController();
    const left = layers.verify(dirId, diffId, {
      onProgress: () => abort.abort(new Error('client left')),
      signal: abort.signal,
    });
    await assert.rejects(left, /client left/);
    assert.deepEqual(leftovers(), []);
    assert.deepEqual(childrenOf(join(dataRoot, 'layers')), []);
  });

  test('reading a layer does not write access times', async (t) => {
    const { layers, extract, dataRoot } = await worldFor(t);
    const tar = archive([{ name: 'f', content: 'x', mtime: 1_000_000_000 }]);
    const { dirId, diffId } = await layers.publish(await extract(tar, { diffId: digestOf(tar) }));
    assert.equal((await layers.verify(dirId, diffId)).state, 'ok');
    assert.equal(statSync(join(dataRoot, 'layers', dirId, 'diff/f')).atimeMs, 1_000_000_000_000);
  });

  test('sweeping keeps what live leases name', async (t) => {
    const { layers, extract, dataRoot } = await worldFor(t);
    await extract(small, { leaseId: 'live' });
    await extract(small, { leaseId: 'dead' });
    mkdirSync(join(dataRoot, 'staging/removed-x/diff'), { recursive: true });
    await layers.sweepStaging(new Set(['live']));
    assert.deepEqual(readdirSync(join(dataRoot, 'staging')), ['live']);
    await layers.sweepStaging(new Set());
    assert.deepEqual(readdirSync(join(dataRoot, 'staging')), []);
  });

  test('what cannot be swept does not keep the engine from starting', async (t) => {
    const { layers, dataRoot } = await worldFor(t);
    const stuck = join(dataRoot, 'staging/stuck/mount');
    mkdirSync(stuck, { recursive: true });
    mkdirSync(join(dataRoot, 'staging/other'));
    mount('tmpfs', stuck, { type: 'tmpfs' });
    try {
      await layers.sweepStaging(new Set());
      assert.deepEqual(readdirSync(join(dataRoot, 'staging')), ['stuck']);
    } finally {
      unmount(stuck);
    }
    await layers.sweepStaging(new Set());
    assert.deepEqual(readdirSync(join(dataRoot, 'staging')), []);
  });

  test('a staged layer that cannot be published leaves nothing', async (t) => {
    const { layers, extract, dataRoot } = await worldFor(t);
    const staged = await extract(small);
    mkdirSync(join(dataRoot, 'layers', staged.dirId, 'occupied'), { recursive: true });
    await assert.rejects(layers.publish(staged), { code: 'HOST', message: /cannot publish layer/ });
    assert.deepEqual(readdirSync(join(dataRoot, 'staging')), []);
  });

  test('many layers of one lease, coming and going', async (t) => {
    const { layers, dataRoot } = await worldFor(t, { parallel: 3 });
    const tars = Array.from({ length: 9 }, (_, index) =>
      archive([{ name: `f${index}`, content: String(index) }]),
    );
    const published = await Promise.all(
      tars.map(async (tar): Promise<[Digest, string]> => {
        const o = { leaseId: 'one', compression: 'auto', diffId: digestOf(tar), signal: t.signal } as const;
        const { diffId, dirId } = await layers.publish(
          await layers.extract(Readable.from([gzipSync(tar)]), o),
        );
        return [diffId, dirId];
      }),
    );
    for (const [index, [diffId, dirId]] of published.entries()) {
      const tar = await buffer(layers.tar(dirId));
      assert.equal(`sha256:${createHash('sha256').update(tar).digest('hex')}`, diffId);
      assert.ok(existsSync(join(dataRoot, 'layers', dirId, `diff/f${index}`)));
    }
    assert.deepEqual(readdirSync(join(dataRoot, 'staging')), []);
  });
});
