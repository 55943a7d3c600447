import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { boxImage } from '../support/box-image.ts';
import { TestEngine } from '../support/engine.ts';
import { faultsOf } from '../support/estate.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { makeLayer, push } from '../support/registry-images.ts';

/**
 * What a power cut, or the repair of a file system after it, leaves in the data root: made on the disk while no daemon
 * runs. The next one must start, have all that was there, and have put the junk away.
 */
interface Junk {
  what: string;
  make(root: string): void;
  /** Paths below the data root that must be gone afterwards. */
  gone?: string[];
  /** More that must hold. */
  after?(root: string): Promise<void> | void;
  /** What cannot be put away, and is put right by this. */
  undo?(root: string): void;
}

let registry: TestRegistry;
let engine: TestEngine;
let image: string;
let container: string;

before(async () => {
  await enterOwnNetwork();
  registry = await startRegistry();
  image = `${registry.host}/app:1`;
  await push(
    registry.host,
    'app',
    ['1'],
    await boxImage({ layers: [await makeLayer({ 'app/main': 'here' })] }),
  );
  engine = await TestEngine.start();
  await engine.ok(['pull', '-q', image]);
  container = await engine.ok([
    'create',
    '--name',
    'keeper',
    '-v',
    'kept:/data',
    '--net',
    'none',
    image,
    'cat',
    '/app/main',
  ]);
});

after(async () => {
  await engine[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

const strange = 'a'.repeat(64);

const spoilers: Record<string, (path: string) => void> = {
  empty: (path) => truncateSync(path),
  cut: (path) => truncateSync(path, 40),
  wrong: (path) => writeFileSync(path, readFileSync(path, 'utf8').replace('tarBytes":', 'tarBytes":1')),
  gone: (path) => rmSync(path),
  'a directory': (path) => {
    rmSync(path);
    mkdirSync(join(path, 'deep'), { recursive: true });
  },
};

const junk: Junk[] = [
  {
    what: 'directories in layers/: empty, half made, of a huge tree',
    make(root) {
      mkdirSync(join(root, 'layers/0000000000001/diff'), { recursive: true });
      mkdirSync(join(root, 'layers/0000000000002'));
      writeFileSync(join(root, 'layers/0000000000002/layer.json'), '');
      for (let n = 0; n < 100; n++) {
        mkdirSync(join(root, `layers/0000000000003/diff/${n}`), { recursive: true });
        for (let m = 0; m < 100; m++) writeFileSync(join(root, `layers/0000000000003/diff/${n}/${m}`), '');
      }
    },
    gone: ['layers/0000000000001', 'layers/0000000000002', 'layers/0000000000003'],
  },
  {
    what: 'a copy of a layer under another name',
    make(root) {
      const [dirId = ''] = readdirSync(join(root, 'layers'));
      cpSync(join(root, 'layers', dirId), join(root, 'layers/0000000000004'), { recursive: true });
    },
    gone: ['layers/0000000000004'],
  },
  {
    what: 'files and links where layers should be',
    make(root) {
      writeFileSync(join(root, 'layers/0000000000005'), 'a file');
      symlinkSync('/etc', join(root, 'layers/0000000000006'));
      mkdirSync(join(root, 'layers/0000000000007'));
      writeFileSync(join(root, 'layers/0000000000007/diff'), 'a file');
      mkdirSync(join(root, 'layers/0000000000007/layer.json'));
      mkdirSync(join(root, 'layers/0000000000007/tar-split'));
    },
    gone: ['layers/0000000000005', 'layers/0000000000006', 'layers/0000000000007'],
    after: () => assert.ok(existsSync('/etc/passwd')),
  },
  ...Object.entries(spoilers).map(([how, spoil]) => ({
    what: `a layer.json of the image's own layers that is ${how}`,
    make(root: string) {
      for (const dirId of readdirSync(join(root, 'layers'))) spoil(join(root, 'layers', dirId, 'layer.json'));
    },
    after(root: string) {
      for (const dirId of readdirSync(join(root, 'layers')))
        assert.match(readFileSync(join(root, 'layers', dirId, 'layer.json'), 'utf8'), /"diffId":"sha256:/);
    },
  })),
  {
    what: 'something that cannot be removed',
    make(root) {
      mkdirSync(join(root, 'layers/0000000000008'));
      writeFileSync(join(root, 'layers/0000000000008/stuck'), '');
      writeFileSync(join(root, 'layers/0000000000009'), '');
      writeFileSync(join(root, 'images/stuck'), '');
      mkdirSync(join(root, `containers/${strange}`));
      writeFileSync(join(root, `containers/${strange}/stuck`), '');
      mkdirSync(join(root, 'volumes/stuck/_data'), { recursive: true });
      writeFileSync(join(root, 'volumes/stuck/_data/stuck'), '');
      mkdirSync(join(root, 'staging/stuck'));
      writeFileSync(join(root, 'staging/stuck/stuck'), '');
      immutable('+i', root);
    },
    undo: (root) => immutable('-i', root),
  },
  {
    what: 'junk in staging/',
    make(root) {
      mkdirSync(join(root, 'staging/0123456789abcdef/xyz/diff'), { recursive: true });
      writeFileSync(join(root, 'staging/removed-x'), 'a file');
    },
    gone: ['staging/0123456789abcdef', 'staging/removed-x'],
  },
  {
    what: 'copies of images: half written, empty, a directory, of none, gone',
    make(root) {
      for (const name of readdirSync(join(root, 'images'))) {
        truncateSync(join(root, 'images', name));
        writeFileSync(join(root, 'images', `.${name}.0123456789ab`), 'half');
      }
      writeFileSync(join(root, `images/${strange}.json`), '');
      mkdirSync(join(root, `images/${'b'.repeat(64)}.json/deep`), { recursive: true });
      writeFileSync(join(root, 'images/README'), 'what is this');
    },
    gone: [`images/${strange}.json`, `images/${'b'.repeat(64)}.json`, 'images/README'],
    after: allCopiesWhole,
  },
  {
    what: 'a directory in the place of the copy of an image',
    make(root) {
      const [name = ''] = readdirSync(join(root, 'images'));
      rmSync(join(root, 'images', name));
      mkdirSync(join(root, 'images', name, 'deep'), { recursive: true });
    },
    after: allCopiesWhole,
  },
  {
    what: 'containers half made, and a file where one should be',
    make(root) {
      mkdirSync(join(root, `containers/${strange}/upper`), { recursive: true });
      writeFileSync(join(root, `containers/${strange}/config.json`), '');
      writeFileSync(join(root, 'containers/file'), '');
      truncateSync(join(root, 'containers', container, 'config.json'));
    },
    gone: [`containers/${strange}`, 'containers/file'],
    after: (root) =>
      assert.match(readFileSync(join(root, 'containers', container, 'config.json'), 'utf8'), /"sum"/),
  },
  {
    what: 'a file in the place of a container',
    make(root) {
      rmSync(join(root, 'containers', container), { recursive: true });
      writeFileSync(join(root, 'containers', container), 'a file');
    },
    after: (root) => assert.ok(statSync(join(root, 'containers', container)).isDirectory()),
    undo(root) {
      for (const name of readdirSync(join(root, 'containers')))
        if (name.includes('damaged')) rmSync(join(root, 'containers', name), { recursive: true });
    },
  },
  {
    what: 'a directory in the place of the copy of a container',
    make(root) {
      rmSync(join(root, 'containers', container, 'config.json'));
      mkdirSync(join(root, 'containers', container, 'config.json/deep'), { recursive: true });
    },
    after: (root) =>
      assert.match(readFileSync(join(root, 'containers', container, 'config.json'), 'utf8'), /"sum"/),
  },
  {
    what: 'volumes half made, and files where they should be',
    make(root) {
      mkdirSync(join(root, 'volumes/half'));
      writeFileSync(join(root, 'volumes/file'), '');
      mkdirSync(join(root, 'volumes/odd'));
      writeFileSync(join(root, 'volumes/odd/_data'), 'a file');
    },
    gone: ['volumes/half', 'volumes/odd'],
    undo: (root) => rmSync(join(root, 'volumes/file')),
  },
  {
    what: 'files in the place of directories that can do without what they held',
    make(root) {
      for (const name of ['staging', 'images']) {
        rmSync(join(root, name), { recursive: true });
        writeFileSync(join(root, name), 'a file');
      }
    },
    after: allCopiesWhole,
    undo(root) {
      for (const name of readdirSync(root))
        if (name.includes('.damaged-')) rmSync(join(root, name), { recursive: true });
    },
  },
  {
    what: 'a database whose log ends in the middle of a record',
    make(root) {
      for (const path of logsOf(root))
        appendFileSync(path, Buffer.from('half a record\0\0\xff\xff', 'latin1'));
    },
  },
  {
    what: 'an empty manifest, table and log beside those that count',
    make(root) {
      for (const name of ['MANIFEST-999999', '999999.ldb', '999998.log', 'LOG.old', 'LOCK'])
        writeFileSync(join(root, 'db', name), '');
    },
  },
  {
    what: 'no database at all',
    make: (root) => renameSync(join(root, 'db'), join(root, 'db.gone')),
    undo: (root) => rmSync(join(root, 'db.gone'), { recursive: true }),
  },
  {
    what: 'a file in the place of the database',
    make(root) {
      rmSync(join(root, 'db'), { recursive: true });
      writeFileSync(join(root, 'db'), 'a file');
    },
    undo(root) {
      for (const name of readdirSync(root))
        if (name.includes('.damaged-')) rmSync(join(root, name), { recursive: true });
    },
  },
];

function immutable(flag: '+i' | '-i', root: string): void {
  const stuck = [
    'layers/0000000000008/stuck',
    'layers/0000000000009',
    'images/stuck',
    `containers/${strange}/stuck`,
    'volumes/stuck/_data/stuck',
    'staging/stuck/stuck',
  ];
  // one has been moved, and is found by its content's name
  const moved = execFileSync('find', [root, '-xdev', '-name', 'stuck', '-type', 'f'])
    .toString()
    .trim()
    .split('\n');
  const paths = [...new Set([...stuck.map((path) => join(root, path)), ...moved])].filter((path) =>
    existsSync(path),
  );
  execFileSync('chattr', [flag, ...paths]);
}

function logsOf(root: string): string[] {
  const names = readdirSync(join(root, 'db')).filter((name) => name.endsWith('.log'));
  return names.map((name) => join(root, 'db', name));
}

/** Nothing but copies, each of them sealed. */
function allCopiesWhole(root: string): void {
  const names = readdirSync(join(root, 'images'));
  assert.equal(names.length, 1);
  for (const name of names) assert.match(readFileSync(join(root, 'images', name), 'utf8'), /^\{"sum"/);
}

for (const { what, make, gone = [], after: check, undo } of junk) {
  test(`the engine starts over ${what}`, async () => {
    const { dataRoot } = engine;
    await engine.stop();
    make(dataRoot);
    let isUp = false;
    try {
      const ms = await engine.boot();
      isUp = true;
      assert.ok(ms < 15_000, `${ms} ms`);
      const images = await engine.json('/images/json');
      assert.deepEqual(
        images.map(({ RepoTags }: { RepoTags: string[] }) => RepoTags),
        [[image]],
      );
      for (const path of gone) assert.equal(existsSync(join(dataRoot, path)), false, path);
      assert.deepEqual((await engine.ok(['ps', '-a', '--format', '{{.Names}}'])).split('\n'), ['keeper']);
      assert.equal(await engine.ok(['start', '-a', 'keeper']), 'here');
      await check?.(dataRoot);
    } finally {
      if (isUp) await engine.stop();
      undo?.(dataRoot);
    }
    await engine.boot();
    for (
      const until = Date.now() + 10_000;
      readdirSync(join(dataRoot, 'staging')).length > 0 && Date.now() < until;
    )
      await sleep(50);
    assert.deepEqual(await faultsOf(engine), []);
  });
}

test('the engine starts over a database that has lost its end, with what it knew before', async () => {
  const { dataRoot } = engine;
  await engine.stop();
  for (const path of logsOf(dataRoot)) copyFileSync(path, `${path}.before`);
  await engine.boot();
  const late = `${registry.host}/late:1`;
  await push(registry.host, 'late', ['1'], await boxImage({ layers: [await makeLayer({ late: 'late' })] }));
  await engine.ok(['pull', '-q', late]);
  await engine.kill();
  const log = logsOf(dataRoot)[0] ?? '';
  const { size } = statSync(log);
  for (const lost of [1, 500, 3000]) {
    if (lost < size) truncateSync(log, size - lost);
    await engine.boot();
    assert.deepEqual(await faultsOf(engine), [], `${lost} bytes lost`);
    assert.equal(await engine.ok(['start', '-a', 'keeper']), 'here');
    await engine.kill();
    if (!existsSync(log)) break; // it has begun another
  }
  await engine.boot();
  await engine.ok(['pull', '-q', late]);
  assert.equal(await engine.ok(['run', '--rm', '--net', 'none', late, 'cat', '/late']), 'late');
  assert.deepEqual(await faultsOf(engine), []);
});
