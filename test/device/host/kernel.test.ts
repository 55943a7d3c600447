import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type * as Koffi from 'koffi';
import { isRoot } from '../../../src/host/facts.ts';
import {
  dropPageCache,
  getXattr,
  inNetworkNamespace,
  listXattrs,
  MS,
  makeNode,
  mount,
  setXattr,
  syncFileSystem,
  unmount,
} from '../../../src/host/kernel.ts';
import { libc, loadMknod } from '../../../src/host/libc.ts';

const skip = isRoot() ? false : 'needs root';

/** A directory on a disk (tmpfs knows no user.* attributes on older kernels, nor a page cache to drop). */
function place(t: TestContext): string {
  const directory = mkdtempSync('/var/tmp/skt-kernel-');
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

test('mount and unmount: flags and options arrive, errors are named as Node names them', { skip }, (t) => {
  const at = join(place(t), 'with space');
  mkdirSync(at);
  mount('skt', at, { type: 'tmpfs', flags: MS.NOSUID | MS.NODEV, data: 'size=64k,mode=700' });
  try {
    const line = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .find((text) => text.includes(at.replace(' ', '\\040')));
    assert.match(line ?? '', /rw,nosuid,nodev.* - tmpfs skt rw,size=64k,mode=700/);
    mount('', at, { flags: MS.REMOUNT | MS.BIND | MS.RDONLY });
    assert.throws(() => writeFileSync(join(at, 'f'), ''), { code: 'EROFS' });
    const open = openSync(at, 'r');
    assert.throws(() => unmount(at), { code: 'EBUSY', syscall: 'umount2', path: at, errno: -16 });
    unmount(at, { isLazy: true });
    closeSync(open);
  } catch (cause) {
    unmount(at, { isLazy: true });
    throw cause;
  }
  assert.throws(() => unmount(at), { code: 'EINVAL' });
  assert.throws(() => unmount(join(at, 'absent')), { code: 'ENOENT' });
  assert.throws(() => mount('skt', at, { type: 'no-such-fs' }), {
    code: 'ENODEV',
    message: `ENODEV: no such device, mount '${at}'`,
  });
});

test('unmount does not follow a link', { skip }, (t) => {
  const directory = place(t);
  mkdirSync(join(directory, 'at'));
  symlinkSync('at', join(directory, 'link'));
  mount('skt', join(directory, 'at'), { type: 'tmpfs' });
  try {
    assert.throws(() => unmount(join(directory, 'link')), { code: 'EINVAL' });
  } finally {
    unmount(join(directory, 'at'));
  }
});

test('128 lower directories fit the option page when they are named from where they are', { skip }, (t) => {
  const directory = place(t);
  mount('skt', directory, { type: 'tmpfs' });
  try {
    const lower = Array.from({ length: 128 }, (_, n) => `layers/${String(n).padStart(16, 'x')}/diff`);
    for (const [n, path] of lower.entries()) {
      mkdirSync(join(directory, path), { recursive: true });
      writeFileSync(join(directory, path, `f${n}`), '');
    }
    for (const name of ['u', 'w', 'merged']) mkdirSync(join(directory, name));
    const tail = `,upperdir=${directory}/u,workdir=${directory}/w`;
    const data = `lowerdir=${lower.join(':')}${tail}`;
    assert.ok(data.length > 3000 && data.length < 4096);
    const before = process.cwd();
    const merged = join(directory, 'merged');
    mount('skt', merged, { type: 'overlay', data, cwd: directory });
    assert.equal(process.cwd(), before);
    assert.equal(readdirSync(merged).length, 128);
    unmount(merged);
    assert.throws(
      () => mount('skt', merged, { type: 'overlay', data: `lowerdir=absent${tail}`, cwd: directory }),
      {
        code: 'ENOENT',
      },
    );
    assert.equal(process.cwd(), before);
  } finally {
    unmount(directory, { isLazy: true });
  }
});

test('options longer than a page are refused, not cut', () => {
  assert.throws(() => mount('skt', '/', { type: 'overlay', data: 'x'.repeat(4096) }), { code: 'E2BIG' });
});

test('a path or a name with a NUL inside is refused: it would be another', () => {
  assert.throws(() => setXattr('/tmp', 'user.a\0b', Buffer.alloc(1)), { code: 'EINVAL' });
  assert.throws(() => getXattr('/\0/etc/passwd', 'user.a'), { code: 'EINVAL' });
  assert.throws(() => getXattr(Buffer.from('/\0/etc/passwd'), 'user.a'), { code: 'EINVAL' });
});

const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;
const S_IFIFO = 0o010000;

const devices = [
  { kind: S_IFCHR, name: 'character special file', major: 0, minor: 0 },
  { kind: S_IFCHR, name: 'character special file', major: 1, minor: 3 },
  { kind: S_IFBLK, name: 'block special file', major: 259, minor: 70_000 },
  { kind: S_IFBLK, name: 'block special file', major: 4095, minor: 1_048_575 },
  { kind: S_IFIFO, name: 'fifo', major: 0, minor: 0 },
];

/** What stat(1) says of a node: kind, major and minor. */
function nodeAt(path: string | Buffer): string {
  return execFileSync('stat', ['-c', '%F %t %T', String(path)], { encoding: 'utf8' }).trim();
}

for (const way of ['mknod', '__xmknod of old C libraries'] as const)
  test(`nodes of every kind and number, by ${way}`, { skip }, (t) => {
    const directory = place(t);
    const koffi = createRequire(import.meta.url)('koffi') as typeof Koffi;
    const library = koffi.load(null);
    const old = {
      func(definition: string) {
        if (definition.startsWith('int mknod')) throw new Error('no such symbol');
        return library.func(definition);
      },
    };
    const c = libc();
    const given = c.mknod;
    if (way !== 'mknod') c.mknod = loadMknod(old);
    t.after(() => {
      c.mknod = given;
    });
    for (const [n, { kind, name, major, minor }] of devices.entries()) {
      const path = join(directory, `n${n}`);
      makeNode(path, kind | 0o600, { major, minor });
      assert.equal(nodeAt(path), `${name} ${major.toString(16)} ${minor.toString(16)}`);
      assert.throws(() => makeNode(path, kind | 0o600, { major, minor }), { code: 'EEXIST', path });
    }
  });

test('nodes and attributes at names that are not UTF-8', { skip }, (t) => {
  const directory = place(t);
  const path = Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0xff, 0x41])]);
  makeNode(path, 0o020600, { major: 1, minor: 3 });
  const [name] = readdirSync(directory, { encoding: 'buffer' });
  assert.deepEqual(name, Buffer.from([0xff, 0x41]));
  assert.equal(lstatSync(path).isCharacterDevice(), true);
  setXattr(path, 'trusted.skt', Buffer.from('v'));
  assert.equal(String(getXattr(path, 'trusted.skt')), 'v');
});

test('attributes: of any length, listed, replaced; absent is undefined', { skip }, (t) => {
  const path = join(place(t), 'f');
  writeFileSync(path, '');
  assert.deepEqual(listXattrs(path), []);
  assert.equal(getXattr(path, 'user.absent'), undefined);
  const values = { 'user.empty': 0, 'user.small': 10, 'user.é': 1024, 'trusted.large': 2000 };
  for (const [name, size] of Object.entries(values)) setXattr(path, name, Buffer.alloc(size, 0xfe));
  assert.deepEqual(listXattrs(path).sort(), Object.keys(values).sort());
  for (const [name, size] of Object.entries(values))
    assert.deepEqual(getXattr(path, name), Buffer.alloc(size, 0xfe), name);
  setXattr(path, 'user.small', Buffer.from('new'));
  assert.equal(String(getXattr(path, 'user.small')), 'new');
  const ping = Buffer.from('0100000200200000000000000000000000000000', 'hex'); // cap_net_raw=ep
  setXattr(path, 'security.capability', ping);
  assert.deepEqual(getXattr(path, 'security.capability'), ping);
  assert.match(
    spawnSync('getcap', [path], { encoding: 'utf8' }).stdout ?? 'cap_net_raw=ep',
    /cap_net_raw=ep/,
  );
  assert.throws(() => getXattr(`${path}x`, 'user.a'), { code: 'ENOENT' });
  assert.throws(() => setXattr(path, 'nonsense', ping), { code: 'ENOTSUP' });
});

test('attributes are those of a link itself', { skip }, (t) => {
  const directory = place(t);
  writeFileSync(join(directory, 'f'), '');
  symlinkSync('f', join(directory, 'link'));
  setXattr(join(directory, 'link'), 'trusted.skt', Buffer.from('link'));
  assert.equal(getXattr(join(directory, 'f'), 'trusted.skt'), undefined);
  assert.equal(String(getXattr(join(directory, 'link'), 'trusted.skt')), 'link');
});

test('a file system without attributes has none', () => {
  assert.equal(getXattr('/proc/self/stat', 'user.a'), undefined);
  assert.deepEqual(listXattrs('/proc/self/stat'), []);
});

test('syncFileSystem asks the right file system, and errors come back from its thread', async (t) => {
  await syncFileSystem('/var/tmp');
  await assert.rejects(syncFileSystem('/var/tmp/no-such-skt'), { code: 'ENOENT' });
  const errno = await new Promise((resolve) => libc().syncfs.async(-1, () => resolve(libc().errno())));
  assert.equal(errno, constants.errno.EBADF);
  const module = JSON.stringify(new URL('../../../src/host/kernel.ts', import.meta.url));
  const script = `await (await import(${module})).syncFileSystem('/var/tmp')`;
  const log = join(place(t), 'trace');
  const command = [
    '-f',
    '-y',
    '-e',
    'trace=syncfs',
    '-o',
    log,
    process.execPath,
    '--input-type=module',
    '-e',
    script,
  ];
  if (spawnSync('strace', command).status !== 0) return t.skip('strace is missing or not allowed');
  assert.match(readFileSync(log, 'utf8'), /syncfs\(\d+<\/var\/tmp>\)\s+= 0/);
});

test('dropPageCache empties the cache of what is on the disk', (t) => {
  const path = join(place(t), 'f');
  const fd = openSync(path, 'w');
  t.after(() => closeSync(fd));
  writeSync(fd, Buffer.alloc(1 << 20, 1));
  const cached = () => {
    const { stdout, status } = spawnSync('fincore', ['-nbo', 'RES', path], { encoding: 'utf8' });
    return status === 0 ? Number(stdout) : undefined;
  };
  const before = cached();
  if (before !== 1 << 20) return t.skip('no fincore, or the file system has no page cache');
  fsyncSync(fd);
  dropPageCache(fd);
  assert.equal(cached(), 0);
});

test('in a network namespace: there during the work, home after it, whatever happens', {
  skip,
}, async (t) => {
  const name = `skt-host-${process.pid}`;
  if (spawnSync('ip', ['netns', 'add', name]).status !== 0) return t.skip('ip netns add does not work here');
  t.after(() => execFileSync('ip', ['netns', 'delete', name]));
  const path = `/run/netns/${name}`;
  const current = () => readlinkSync('/proc/thread-self/ns/net');
  const home = current();
  const fds = readdirSync('/proc/self/fd').length;

  const there = inNetworkNamespace(path, current);
  assert.notEqual(there, home);
  assert.equal(current(), home);

  const child = inNetworkNamespace(path, () =>
    execFileSync('readlink', ['/proc/self/ns/net'], { encoding: 'utf8' }),
  );
  assert.equal(child.trim(), there);
  const homeFd = openSync('/proc/self/ns/net', 'r');
  const nested = inNetworkNamespace(path, () => [
    inNetworkNamespace(`/proc/self/fd/${homeFd}`, current),
    current(),
  ]);
  closeSync(homeFd);
  assert.deepEqual(nested, [home, there]);

  const broken = () =>
    inNetworkNamespace(path, () => {
      throw new Error('broken');
    });
  assert.throws(broken, { message: 'broken' });
  assert.equal(current(), home);

  assert.throws(() => inNetworkNamespace(path, async () => 1), TypeError);
  assert.throws(() => inNetworkNamespace('/run/netns/no-such-skt', current), { code: 'ENOENT' });
  assert.throws(() => inNetworkNamespace('/proc/self/ns/uts', current), { code: 'EINVAL' });
  assert.equal(current(), home);
  assert.equal(readdirSync('/proc/self/fd').length, fds);
});
