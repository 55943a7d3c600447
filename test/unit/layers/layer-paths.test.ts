import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { LayerDisk } from '../../../src/layers/layer-disk.ts';
import { cleanName, LayerPaths } from '../../../src/layers/layer-paths.ts';
import { diskPath, nameOf, nameText } from '../../../src/lib/byte-names.ts';

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'skerry-paths-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

test('names are made clean by their letters', () => {
  const cases: Record<string, string> = {
    'usr/bin': 'usr/bin',
    './usr/bin/': 'usr/bin',
    '/etc/passwd': 'etc/passwd',
    '../../etc': 'etc',
    'a/../../b': 'b',
    'a//b/./c': 'a/b/c',
    './': '',
    '.': '',
    '': '',
    '/': '',
    '..': '',
    './/x': 'x',
    'a/..': '',
    '..a/.b/c..': '..a/.b/c..',
    '...': '...',
  };
  for (const [name, clean] of Object.entries(cases)) assert.equal(cleanName(name), clean, name);
});

test('names need not be UTF-8', () => {
  assert.equal(diskPath('usr/bin'), 'usr/bin');
  assert.deepEqual(diskPath('caf\xe9'), Buffer.from([0x63, 0x61, 0x66, 0xe9]));
  assert.equal(nameText(nameOf('ünï')), 'ünï');
});

test('links are followed as if the layer were the whole file system', (t) => {
  const root = scratch(t);
  mkdirSync(join(root, 'usr/lib/deep'), { recursive: true });
  symlinkSync('usr/lib', join(root, 'lib'));
  symlinkSync('/usr/lib', join(root, 'absolute'));
  symlinkSync('../../../../usr', join(root, 'above'));
  symlinkSync('lib/deep', join(root, 'chain'));
  symlinkSync('../lib/./deep//', join(root, 'usr/odd'));
  const paths = new LayerPaths(LayerDisk.open(root));
  for (const round of ['first', 'remembered']) {
    assert.equal(paths.resolve(''), '', round);
    assert.equal(paths.resolve('lib'), 'usr/lib', round);
    assert.equal(paths.resolve('lib/deep'), 'usr/lib/deep', round);
    assert.equal(paths.resolve('absolute/deep'), 'usr/lib/deep', round);
    assert.equal(paths.resolve('above/lib'), 'usr/lib', round);
    assert.equal(paths.resolve('chain'), 'usr/lib/deep', round);
    assert.equal(paths.resolve('usr/odd'), 'usr/lib/deep', round);
  }
});

test('a link that was followed once is followed again further down', (t) => {
  const sandbox = scratch(t);
  const root = join(sandbox, 'layer');
  mkdirSync(join(sandbox, 'outside/sub'), { recursive: true });
  mkdirSync(root);
  symlinkSync(join(sandbox, 'outside'), join(root, 'link'));
  const paths = new LayerPaths(LayerDisk.open(root));
  const made: string[] = [];
  const supply = (path: string) => {
    made.push(path);
    mkdirSync(join(root, path));
  };
  const inside = join(sandbox, 'outside').slice(1);
  assert.equal(paths.resolve('link', supply), inside);
  assert.equal(paths.resolve('link/sub', supply), `${inside}/sub`);
  assert.ok(existsSync(join(root, inside, 'sub')));
});

test('what is missing or no directory is supplied, or ends the search', (t) => {
  const root = scratch(t);
  writeFileSync(join(root, 'file'), '');
  const paths = new LayerPaths(LayerDisk.open(root));
  assert.equal(paths.resolve('none'), undefined);
  assert.equal(paths.resolve('file/below'), undefined);
  const asked: string[] = [];
  const refuse = (path: string, found: unknown) => {
    asked.push(`${path} ${found === undefined ? 'missing' : 'other'}`);
    throw new Error('refused');
  };
  assert.throws(() => paths.resolve('none/below', refuse), /refused/);
  assert.throws(() => paths.resolve('file', refuse), /refused/);
  assert.deepEqual(asked, ['none missing', 'file other']);
});

test('loops end', (t) => {
  const root = scratch(t);
  symlinkSync('b', join(root, 'a'));
  symlinkSync('a', join(root, 'b'));
  symlinkSync('self/x', join(root, 'self'));
  const paths = new LayerPaths(LayerDisk.open(root));
  assert.throws(() => paths.resolve('a'), { code: 'CORRUPT', message: /too many symbolic links/ });
  assert.throws(() => paths.resolve('self'), { code: 'CORRUPT' });
});

test('after a link was replaced, nothing old is believed', (t) => {
  const root = scratch(t);
  mkdirSync(join(root, 'one'));
  symlinkSync('one', join(root, 'link'));
  const paths = new LayerPaths(LayerDisk.open(root));
  assert.equal(paths.resolve('link'), 'one');
  unlinkSync(join(root, 'link'));
  mkdirSync(join(root, 'link'));
  paths.forget();
  assert.equal(paths.resolve('link'), 'link');
});
