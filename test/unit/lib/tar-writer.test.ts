import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { TarEntry } from '../../../src/lib/tar.ts';
import { TarWalker } from '../../../src/lib/tar-walker.ts';
import { endOfArchive, headersOf, paddingAfter, type TarMember } from '../../../src/lib/tar-writer.ts';

const plain: TarMember = {
  type: 'file',
  name: 'a',
  mode: 0o644,
  uid: 0,
  gid: 0,
  size: 0,
  modifiedAt: { seconds: 1_700_000_000, nanos: 0 },
};

function entriesOf(tar: Buffer): TarEntry[] {
  const entries: TarEntry[] = [];
  const walker = new TarWalker({
    raw() {},
    open(entry) {
      entries.push(entry);
      return true;
    },
    content() {},
    close() {},
  });
  walker.push(tar);
  walker.end();
  return entries;
}

function readBack(member: TarMember): TarEntry {
  const content = Buffer.alloc(member.size + paddingAfter(member.size));
  const [entry, more] = entriesOf(Buffer.concat([headersOf(member), content, endOfArchive]));
  assert.ok(entry !== undefined && more === undefined);
  return entry;
}

/** Listed by GNU tar: mode, owner, size, time and name. */
function listed(...members: TarMember[]): string[] {
  const tar = Buffer.concat([...members.map(headersOf), endOfArchive]);
  const args = ['--list', '--verbose', '--numeric-owner', '--utc', '--full-time', '--quoting-style=escape'];
  return execFileSync('tar', args, { input: tar, encoding: 'latin1', env: { LC_ALL: 'C' } })
    .trimEnd()
    .split('\n');
}

describe('the headers of a member', () => {
  test('are one block where everything fits', () => {
    assert.equal(headersOf(plain).length, 512);
    assert.equal(headersOf({ ...plain, name: `${'d'.repeat(155)}/${'n'.repeat(100)}` }).length, 512);
    assert.equal(headersOf({ ...plain, uid: 0o7777777 }).length, 512);
  });

  test('are as GNU tar reads them', () => {
    assert.deepEqual(
      listed(
        { ...plain, mode: 0o4755, uid: 3_000_000, gid: 7, modifiedAt: { seconds: 1, nanos: 500_000_000 } },
        { ...plain, name: 'd/', type: 'directory', mode: 0o1777 },
        { ...plain, name: 'l', type: 'symlink', linkName: 't'.repeat(101), mode: 0o777 },
        { ...plain, name: 'h', type: 'hardlink', linkName: 'a' },
        { ...plain, name: 'c', type: 'character', major: 10, minor: 130, mode: 0o600 },
        { ...plain, name: 'p', type: 'fifo' },
        { ...plain, name: `d/${'x'.repeat(101)}\xc3\xa9` },
        { ...plain, name: 'old', modifiedAt: { seconds: -2, nanos: 0 } },
      ).map((line) => line.replace(/ +/g, ' ')),
      [
        '-rwsr-xr-x 3000000/7 0 1970-01-01 00:00:01.5 a',
        'drwxrwxrwt 0/0 0 2023-11-14 22:13:20 d/',
        `lrwxrwxrwx 0/0 0 2023-11-14 22:13:20 l -> ${'t'.repeat(101)}`,
        'hrw-r--r-- 0/0 0 2023-11-14 22:13:20 h link to a',
        'crw------- 0/0 10,130 2023-11-14 22:13:20 c',
        'prw-r--r-- 0/0 0 2023-11-14 22:13:20 p',
        `-rw-r--r-- 0/0 0 2023-11-14 22:13:20 d/${'x'.repeat(101)}\\303\\251`,
        '-rw-r--r-- 0/0 0 1969-12-31 23:59:58 old',
      ],
    );
  });

  test('say sizes that octal digits do not hold', () => {
    const size = 9 * 2 ** 30;
    const { stdout } = spawnSync('tar', ['--list', '--verbose'], {
      input: headersOf({ ...plain, size }),
      encoding: 'utf8',
    });
    assert.match(stdout, / 9663676416 /);
  });

  const name = fc
    .array(fc.constantFrom('a', 'é', ' ', '\n', '=', 'x'.repeat(60), '\\'), { minLength: 1, maxLength: 6 })
    .map((parts) => Buffer.from(parts.join('')).toString('latin1'));
  const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));
  const anyMember: fc.Arbitrary<TarMember> = fc.record({
    type: fc.constantFrom('file', 'symlink', 'hardlink', 'directory', 'fifo', 'character', 'block'),
    name: path,
    linkName: path,
    mode: fc.nat(0o7777),
    uid: fc.nat(0xfffffffe),
    gid: fc.nat(0xfffffffe),
    size: fc.nat(2000),
    modifiedAt: fc
      .tuple(fc.integer({ min: -1e10, max: 1e11 }), fc.nat(999_999_999))
      .map(([seconds, nanos]) => ({ seconds, nanos })),
    major: fc.nat(0xfff),
    minor: fc.nat(0xfffff),
    xattrs: fc
      .array(fc.tuple(fc.constantFrom('user.a', 'security.capability', 'user.é'), fc.uint8Array()))
      .map((pairs) => new Map(pairs.map(([key, value]) => [key, Buffer.from(value)]))),
  });

  test('come back as they were', () => {
    fc.assert(
      fc.property(anyMember, (drawn) => {
        const { type, linkName = '' } = drawn;
        const isLink = type === 'symlink' || type === 'hardlink';
        const isDevice = type === 'character' || type === 'block';
        const member: TarMember = {
          ...drawn,
          name: type === 'directory' ? `${drawn.name}/` : drawn.name,
          linkName: isLink ? linkName : '',
          size: type === 'file' ? drawn.size : 0,
          major: isDevice ? (drawn.major ?? 0) : 0,
          minor: isDevice ? (drawn.minor ?? 0) : 0,
        };
        const { fragments: _, accessedAt: __, ...entry } = readBack(member);
        assert.deepEqual(entry, member);
      }),
    );
  });
});
