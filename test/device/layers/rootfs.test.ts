import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { mount, unmount } from '../../../src/host/kernel.ts';
import { mountsUnder } from '../../../src/host/mounts.ts';
import { Layers } from '../../../src/layers/layers.ts';
import { digestOf } from '../../../src/lib/digest.ts';
import { silentLog } from '../../../src/lib/log.ts';
import { archive, type Member } from '../../support/tar-archive.ts';
import { skip } from './sandbox.ts';

const childPath = fileURLToPath(new URL('../../../src/layers/extract-layer.ts', import.meta.url));

interface World {
  dataRoot: string;
  layers: Layers;
  containerDir: string;
  add(members: Member[]): Promise<string>;
}

async function worldFor(t: TestContext, name = 'skerry-rootfs-', size?: string): Promise<World> {
  const dataRoot = mkdtempSync(join(tmpdir(), name));
  // small and of its own: /tmp may itself be an overlay, which cannot hold an upper directory
  mount('tmpfs', dataRoot, { type: 'tmpfs', data: `size=${size ?? '64m'}` });
  t.after(async () => {
    for (const place of await mountsUnder(dataRoot)) unmount(place);
    rmSync(dataRoot, { recursive: true, force: true });
  });
  const layers = await Layers.open({ dataRoot, childPath, parallel: 2, log: silentLog });
  const add = async (members: Member[]) => {
    const tar = archive(members);
    const o = { leaseId: 'l', compression: 'none', diffId: digestOf(tar), signal: t.signal } as const;
    return (await layers.publish(await layers.extract(Readable.from([tar]), o))).dirId;
  };
  const containerDir = join(dataRoot, 'containers', 'c'.repeat(64));
  return { dataRoot, layers, containerDir, add };
}

/** Directories as a published layer has them, without the work of unpacking. */
function fabricate(dataRoot: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    const dirId = `layer${String(index).padStart(8, '0')}`;
    mkdirSync(join(dataRoot, 'layers', dirId, 'diff'), { recursive: true });
    writeFileSync(join(dataRoot, 'layers', dirId, 'diff', `file${index}`), String(index));
    writeFileSync(join(dataRoot, 'layers', dirId, 'diff/top'), String(index));
    return dirId;
  });
}

describe('root file systems', { skip }, () => {
  test('layers are stacked, with what they delete', async (t) => {
    const { layers, add, containerDir } = await worldFor(t);
    const dirIds = [
      await add([
        { name: 'etc/a', content: 'low' },
        { name: 'etc/b', content: 'low' },
        { name: 'opt/x' },
        { name: 'opt/y' },
        { name: 'dir/old' },
      ]),
      await add([
        { name: 'etc/.wh.a' },
        { name: 'etc/b', content: 'high' },
        { name: 'opt/.wh..wh..opq' },
        { name: 'opt/z' },
      ]),
      await add([{ name: '.wh.dir' }, { name: 'dir/', type: '5' }, { name: 'dir/new' }]),
    ];
    const merged = await layers.mountRootfs({ dirIds, containerDir });
    assert.equal(merged, join(containerDir, 'merged'));
    assert.deepEqual(readdirSync(join(merged, 'etc')), ['b']);
    assert.equal(readFileSync(join(merged, 'etc/b'), 'utf8'), 'high');
    assert.deepEqual(readdirSync(join(merged, 'opt')), ['z']);
    assert.deepEqual(
      readdirSync(join(merged, 'dir')),
      ['new'],
      'a directory in the place of a deleted one is a new one',
    );
    writeFileSync(join(merged, 'etc/mine'), '');
    rmSync(join(merged, 'opt/z'));
    assert.ok(existsSync(join(containerDir, 'upper/etc/mine')));
    assert.ok(lstatSync(join(containerDir, 'upper/opt/z')).isCharacterDevice());
    assert.equal(statSync(merged).mode & 0o7777, 0o755);

    assert.equal(await layers.mountRootfs({ dirIds, containerDir }), merged, 'again is fine');
    assert.equal((await mountsUnder(containerDir)).length, 1);
    await layers.unmountRootfs(containerDir);
    await layers.unmountRootfs(containerDir);
    assert.deepEqual(await mountsUnder(containerDir), []);
    await layers.mountRootfs({ dirIds, containerDir });
    assert.ok(existsSync(join(merged, 'etc/mine')), 'what was written is still there');
  });

  for (const count of [1, 2, 64, 127, 128]) {
    test(`${count} layers`, async (t) => {
      const { layers, dataRoot, containerDir } = await worldFor(t);
      const before = process.cwd();
      const merged = await layers.mountRootfs({ dirIds: fabricate(dataRoot, count), containerDir });
      assert.equal(process.cwd(), before);
      assert.equal(readFileSync(join(merged, 'top'), 'utf8'), String(count - 1));
      assert.equal(readdirSync(merged).length, count + 1);
    });
  }

  test("the daemon's umask and group do not show", async (t) => {
    const { layers, add, dataRoot, containerDir } = await worldFor(t);
    chownSync(dataRoot, 0, 50);
    chmodSync(dataRoot, 0o2755);
    rmSync(join(dataRoot, 'staging'), { recursive: true });
    mkdirSync(join(dataRoot, 'staging'));
    const umask = process.umask(0o077);
    try {
      const dirIds = [
        await add([
          { name: 'implied/file', mode: 0o666 },
          { name: 'dir', type: '5', mode: 0o777 },
        ]),
      ];
      const merged = await layers.mountRootfs({ dirIds, containerDir });
      const [dirId] = dirIds;
      assert.deepEqual(
        [
          merged,
          `${merged}/implied`,
          `${merged}/implied/file`,
          `${merged}/dir`,
          join(dataRoot, 'layers', dirId ?? '', 'diff'),
        ].map((path) => {
          const { mode, uid, gid } = statSync(path);
          return `${(mode & 0o7777).toString(8)} ${uid}:${gid}`;
        }),
        ['755 0:0', '755 0:0', '666 0:0', '777 0:0', '755 0:0'],
      );
    } finally {
      process.umask(umask);
    }
  });

  test('more layers than a mount can name are refused in words', async (t) => {
    const { layers, dataRoot, containerDir } = await worldFor(t);
    const dirIds = fabricate(dataRoot, 300);
    await assert.rejects(layers.mountRootfs({ dirIds, containerDir }), {
      code: 'HOST',
      message: /too many layers to mount: 300/,
    });
  });

  test('no layers at all', async (t) => {
    const { layers, containerDir } = await worldFor(t);
    const merged = await layers.mountRootfs({ dirIds: [], containerDir });
    writeFileSync(join(merged, 'file'), '');
    assert.ok(existsSync(join(containerDir, 'upper/file')));
    await layers.unmountRootfs(containerDir);
    assert.deepEqual(readdirSync(merged), []);
  });

  test('a layer that is there twice', async (t) => {
    const { layers, add, containerDir } = await worldFor(t);
    const twice = await add([{ name: 'a', content: '1' }, { name: '.wh.b' }]);
    const between = await add([{ name: 'a', content: '2' }, { name: 'b', content: '2' }, { name: 'c' }]);
    const merged = await layers.mountRootfs({ dirIds: [twice, between, twice], containerDir });
    assert.equal(readFileSync(join(merged, 'a'), 'utf8'), '1');
    assert.deepEqual(readdirSync(merged), ['a', 'c']);
  });

  test('a data root with a name that mount options could trip over', async (t) => {
    const { layers, add, containerDir } = await worldFor(t, 'skerry,root:fs\\ ü-');
    const merged = await layers.mountRootfs({ dirIds: [await add([{ name: 'a' }])], containerDir });
    assert.deepEqual(readdirSync(merged), ['a']);
    const odd = join(containerDir, '../od:d,\\name');
    assert.deepEqual(
      readdirSync(await layers.mountRootfs({ dirIds: [await add([{ name: 'b' }])], containerDir: odd })),
      ['b'],
    );
  });

  test('one that is in use goes when its last user does', async (t) => {
    const { layers, add, containerDir } = await worldFor(t);
    const merged = await layers.mountRootfs({ dirIds: [await add([{ name: 'a' }])], containerDir });
    const fd = openSync(join(merged, 'a'), 'r');
    await layers.unmountRootfs(containerDir);
    assert.deepEqual(await mountsUnder(containerDir), []);
    closeSync(fd);
  });

  test('a layer that is not there', async (t) => {
    const { layers, containerDir } = await worldFor(t);
    await assert.rejects(layers.mountRootfs({ dirIds: ['none'], containerDir }), {
      code: 'HOST',
      message: /ENOENT/,
    });
    assert.deepEqual(await mountsUnder(containerDir), []);
    await layers.unmountRootfs(containerDir);
    await layers.unmountRootfs(join(containerDir, 'never'));
  });
});

describe('a full disk', { skip }, () => {
  const noise = Buffer.alloc(12 << 20, 'noise');
  const tars = {
    'in the middle of a file': archive([{ name: 'big', content: noise }]),
    'in the middle of many': archive(
      Array.from({ length: 3000 }, (_, index) => ({ name: `f${index}`, content: 'x'.repeat(4000) })),
    ),
  };
  for (const [what, tar] of Object.entries(tars)) {
    test(what, async (t) => {
      const { layers, dataRoot } = await worldFor(t, 'skerry-full-', '8m');
      const o = { leaseId: 'l', compression: 'none', diffId: digestOf(tar), signal: t.signal } as const;
      await assert.rejects(layers.extract(Readable.from([tar]), o), {
        code: 'NO_SPACE',
        message: /no space left on device/,
      });
      assert.deepEqual(readdirSync(join(dataRoot, 'staging')), []);
    });
  }
});
