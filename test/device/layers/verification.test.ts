import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  copyFileSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setXattr } from '../../../src/host/kernel.ts';
import { digestOf } from '../../../src/lib/digest.ts';
import { archive } from '../../support/tar-archive.ts';
import { type Sandbox, sandboxFor, skip } from './sandbox.ts';

/** cap_net_raw, effective. */
const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
const mtime = 1_700_000_000;

/** One of everything that a layer can hold. */
const tar = archive([
  { name: 'bin/', type: '5', mtime },
  { name: 'bin/app', mode: 0o4755, content: Buffer.alloc(100_000, 'app'), mtime },
  {
    name: 'bin/ping',
    content: 'ping',
    mtime,
    pax: { 'SCHILY.xattr.security.capability': capability, 'SCHILY.xattr.user.note': 'kept' },
  },
  { name: 'bin/pong', type: '1', linkName: 'bin/ping', mtime, pax: {} },
  { name: 'etc/', type: '5', mtime },
  { name: 'etc/conf', uid: 7, gid: 8, content: 'conf', mtime },
  { name: 'etc/link', type: '2', linkName: 'conf', mtime },
  { name: 'etc/.wh.old', mtime },
  { name: 'opaque/', type: '5', mtime },
  { name: 'opaque/.wh..wh..opq', mtime },
  { name: 'dev/', type: '5', mtime },
  { name: 'dev/null', type: '3', major: 1, minor: 3, mode: 0o666, mtime },
  { name: 'dev/pipe', type: '6', mode: 0o600, mtime },
  { name: 'implied/by/this', content: 'x', mtime },
  {
    name: 'sparse',
    content: Buffer.alloc(4096, 's'),
    mtime,
    pax: { 'GNU.sparse.map': '40960,4096', 'GNU.sparse.size': '10000000' },
  },
  { name: 'hollow', mtime, pax: { 'GNU.sparse.map': '0,0', 'GNU.sparse.size': '100000' } },
]);

/** Changes something, and sets the time of what it changed back, so that nothing but the change can tell. */
interface Damage {
  what: string;
  on: string;
  do(path: string, diff: string): void;
  found: RegExp;
}

function overwrite(path: string, at: number, bytes: string): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, bytes, at);
  closeSync(fd);
}

const damages: Damage[] = [
  {
    what: 'a flipped bit',
    on: 'bin/app',
    do: (path) => overwrite(path, 50_000, 'b'),
    found: /content is that/,
  },
  {
    what: 'a file cut short',
    on: 'bin/app',
    do: (path) => truncateSync(path, 5000),
    found: /bin\/app is cut/,
  },
  { what: 'a file without content', on: 'bin/app', do: (path) => truncateSync(path, 0), found: /is cut/ },
  {
    what: 'more at the end',
    on: 'bin/app',
    do: (path) => appendFileSync(path, 'x'),
    found: /has 100001 bytes/,
  },
  {
    what: 'a file that is gone',
    on: 'etc/conf',
    do: (path) => unlinkSync(path),
    found: /cannot read etc\/conf: ENOENT/,
  },
  {
    what: 'a link that is gone',
    on: 'etc/link',
    do: (path) => unlinkSync(path),
    found: /etc\/link is missing/,
  },
  {
    what: 'a whiteout that is gone',
    on: 'etc/old',
    do: (path) => unlinkSync(path),
    found: /etc\/old is missing/,
  },
  {
    what: 'a directory that is gone',
    on: 'opaque',
    do: (path) => rmSync(path, { recursive: true }),
    found: /\/opaque is missing/,
  },
  {
    what: 'one file more',
    on: 'etc/more',
    do: (path) => writeFileSync(path, ''),
    found: /etc\/more does not belong/,
  },
  { what: 'one directory more', on: 'more', do: (path) => mkdirSync(path), found: /\/more does not belong/ },
  {
    what: 'one more in a directory that is only implied',
    on: 'implied/by/that',
    do: (path) => symlinkSync('this', path),
    found: /implied\/by\/that does not belong/,
  },
  {
    what: 'another mode',
    on: 'bin/app',
    do: (path) => chmodSync(path, 0o755),
    found: /has mode 755, not 4755/,
  },
  {
    what: 'another mode of the top',
    on: '.',
    do: (path) => chmodSync(path, 0o777),
    found: /has mode 777, not 755/,
  },
  {
    what: 'another owner',
    on: 'etc/conf',
    do: (path) => chownSync(path, 7, 9),
    found: /belongs to 7:9, not to 7:8/,
  },
  {
    what: 'another time',
    on: 'etc',
    do: (path) => utimesSync(path, mtime, mtime + 5),
    found: /\/etc was changed at 2023-11-14T22:13:25Z, not at 2023-11-14T22:13:20Z/,
  },
  {
    what: 'another target',
    on: 'etc/link',
    do(path) {
      unlinkSync(path);
      symlinkSync('/etc/shadow', path);
    },
    found: /points to \/etc\/shadow, not to conf/,
  },
  {
    what: 'a lost capability',
    on: 'bin/ping',
    do: (path) => chownSync(path, 0, 0), // the kernel takes it away
    found: /bin\/ping lacks its attribute security.capability/,
  },
  {
    what: 'a capability too many',
    on: 'bin/app',
    do: (path) => setXattr(path, 'security.capability', capability),
    found: /bin\/app has an attribute security.capability/,
  },
  {
    what: 'another attribute',
    on: 'bin/ping',
    do: (path) => setXattr(path, 'user.note', Buffer.from('lost')),
    found: /has another attribute user.note/,
  },
  {
    what: 'a directory that hides what is below',
    on: 'etc',
    do: (path) => setXattr(path, 'trusted.overlay.opaque', Buffer.from('y')),
    found: /\/etc has an attribute trusted.overlay.opaque/,
  },
  {
    what: 'a directory that hides no more',
    on: 'opaque',
    do(path) {
      rmSync(path, { recursive: true });
      mkdirSync(path);
    },
    found: /\/opaque lacks its attribute/,
  },
  {
    what: 'another device',
    on: 'dev/null',
    do(path) {
      unlinkSync(path);
      execFileSync('mknod', ['-m', '666', path, 'c', '1', '5']);
    },
    found: /dev\/null is another device/,
  },
  {
    what: 'a file instead of a directory',
    on: 'opaque',
    do(path) {
      rmSync(path, { recursive: true });
      writeFileSync(path, '');
    },
    found: /\/opaque is a file, not a directory/,
  },
  {
    what: 'a directory instead of a file',
    on: 'etc/conf',
    do(path) {
      unlinkSync(path);
      mkdirSync(path);
    },
    found: /cannot read etc\/conf: EISDIR/,
  },
  {
    what: 'a link to the same content instead of a file',
    on: 'bin/app',
    do(path, diff) {
      renameSync(path, join(diff, '../kept'));
      symlinkSync('../../kept', path);
    },
    found: /cannot read bin\/app: ELOOP/,
  },
  {
    what: 'a link to the same tree instead of a directory',
    on: 'bin',
    do(path, diff) {
      renameSync(path, join(diff, '../kept'));
      symlinkSync('../kept', path);
    },
    found: /\/bin is a link, not a directory/,
  },
  {
    what: 'a fifo instead of a file, for which nobody waits',
    on: 'etc/conf',
    do(path) {
      unlinkSync(path);
      execFileSync('mkfifo', ['-m', '644', path]);
    },
    found: /cannot read etc\/conf/,
  },
  {
    what: 'two files where there was one by two names',
    on: 'bin/pong',
    do(path, diff) {
      unlinkSync(path);
      execFileSync('cp', ['-a', join(diff, 'bin/ping'), path]);
    },
    found: /bin\/p[io]ng is not the same file/,
  },
  {
    what: 'bytes in a hole',
    on: 'sparse',
    do: (path) => overwrite(path, 5000, 'x'),
    found: /sparse has content where/,
  },
  {
    what: 'bytes in the last hole',
    on: 'sparse',
    do: (path) => overwrite(path, 9_999_999, 'x'),
    found: /sparse has content/,
  },
  {
    what: 'bytes in a file of nothing',
    on: 'hollow',
    do: (path) => overwrite(path, 77, 'x'),
    found: /hollow has content/,
  },
  {
    what: 'no tar-split',
    on: '../tar-split',
    do: (path) => unlinkSync(path),
    found: /layer data is damaged: ENOENT/,
  },
  {
    what: 'a tar-split with a flipped bit',
    on: '../tar-split',
    do: (path) => overwrite(path, 40, '\0'),
    found: /./,
  },
];

async function unpacked(t: TestContext): Promise<Sandbox> {
  const sandbox = sandboxFor(t);
  await sandbox.unpack(tar);
  return sandbox;
}

/** Directories and the thing itself get back the time that they had. */
function hide(diff: string, path: string): void {
  for (const name of ['bin', 'etc', 'dev', 'opaque', path])
    try {
      lutimesSync(join(diff, name), mtime, mtime);
    } catch {} // gone
}

describe('verification', { skip }, () => {
  for (const { what, on, do: damage, found } of damages) {
    test(`finds ${what}`, async (t) => {
      const sandbox = await unpacked(t);
      damage(join(sandbox.diff, on), sandbox.diff);
      if (what !== 'another time') hide(sandbox.diff, on);
      const { state, differences } = sandbox.verify(digestOf(tar));
      assert.equal(state, 'damaged');
      assert.match(differences.join('\n'), found);
      assert.ok(differences.length <= 2, differences.join('\n'));
    });
  }

  test('is not troubled by what does no harm', async (t) => {
    const sandbox = await unpacked(t);
    linkSync(join(sandbox.diff, 'bin/app'), join(sandbox.path, 'elsewhere')); // a backup
    copyFileSync(join(sandbox.diff, 'etc/conf'), join(sandbox.layer, 'layer.json'));
    utimesSync(join(sandbox.diff, 'implied'), 1, 1); // nothing says how old it is
    utimesSync(join(sandbox.diff, 'bin/app'), 5, mtime); // read
    setXattr(join(sandbox.diff, 'etc'), 'security.selinux', Buffer.from('label'));
    overwriteWithZeros(join(sandbox.diff, 'sparse'));
    assert.deepEqual(sandbox.verify(digestOf(tar)), { state: 'ok', differences: [] });
  });

  test('tells some of many differences', async (t) => {
    const sandbox = await unpacked(t);
    for (let n = 0; n < 100; n++) writeFileSync(join(sandbox.diff, `more${n}`), '');
    const { differences } = sandbox.verify(digestOf(tar));
    assert.equal(differences.length, 8);
  });

  test('another layer is not this one', async (t) => {
    const sandbox = await unpacked(t);
    const { state, differences } = sandbox.verify(digestOf('another'));
    assert.equal(state, 'damaged');
    assert.match(differences[0] ?? '', new RegExp(`content is that of ${digestOf(tar)}`));
  });
});

/** A file system that has no holes is no reason for alarm. */
function overwriteWithZeros(path: string): void {
  overwrite(path, 0, '\0'.repeat(4096));
  utimesSync(path, mtime, mtime);
}
