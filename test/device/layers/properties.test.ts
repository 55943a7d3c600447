import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { pack } from 'tar-stream';
import { Failure } from '../../../src/errors.ts';
import { makeNode, setXattr } from '../../../src/host/kernel.ts';
import { archive, type Member } from '../../support/tar-archive.ts';
import { Sandbox, sandboxFor, skip, treeOf } from './sandbox.ts';

const rounds = process.env['SKERRY_SOAK'] ? 5000 : 120;

/** A few names that meet often, and ways out. */
const part = fc.constantFrom(
  'a',
  'b',
  'c',
  '.wh.a',
  '.wh..wh..opq',
  '..',
  '.',
  '',
  'outside',
  'secret',
  '\xe9',
);
const path = fc
  .array(part, { minLength: 1, maxLength: 4 })
  .map((parts) => Buffer.from(parts.join('/'), 'latin1'));
const target = fc.oneof(path, fc.constantFrom('OUTSIDE', 'OUTSIDE/secret', '../../outside', '/', '.', '..'));
const content = fc.uint8Array({ maxLength: 1200 }).map((bytes) => Buffer.from(bytes));

const anyMember = fc.oneof(
  fc.record({ name: path, content, mode: fc.integer({ min: 0, max: 0o7777 }), uid: fc.nat(3) }),
  fc.record({
    name: path,
    type: fc.constant('5'),
    mode: fc.integer({ min: 0, max: 0o7777 }),
    gid: fc.nat(3),
  }),
  fc.record({ name: path, type: fc.constant('2'), linkName: target }),
  fc.record({ name: path, type: fc.constant('1'), linkName: target, uid: fc.nat(3) }),
  fc.record({ name: path, type: fc.constantFrom('3', '4'), major: fc.nat(2), minor: fc.nat(2) }),
  fc.record({ name: path, type: fc.constant('6') }),
);

function madeFor(sandbox: Sandbox, members: readonly Member[]): Member[] {
  return members.map((one) => {
    const linkName =
      typeof one.linkName === 'string' ? one.linkName.replace('OUTSIDE', sandbox.outside) : one.linkName;
    return { ...one, ...(linkName !== undefined && { linkName }) };
  });
}

/** True if it was unpacked, false if it was refused; anything else is thrown. */
async function isUnpacked(sandbox: Sandbox, tar: Buffer, pieceBytes: number): Promise<boolean> {
  try {
    await sandbox.unpack(tar, { pieceBytes });
    return true;
  } catch (cause) {
    if (cause instanceof Failure && cause.code === 'CORRUPT') return false;
    throw cause;
  }
}

describe('layers of all kinds', { skip }, () => {
  test('whatever entries meet, it stays inside, and the tar comes back or is refused', async (t) => {
    let unpacked = 0;
    const members = fc.array(anyMember, { minLength: 1, maxLength: 25 });
    await fc.assert(
      fc.asyncProperty(members, fc.integer({ min: 100, max: 5000 }), async (some, pieceBytes) => {
        using sandbox = new Sandbox();
        if (await isUnpacked(sandbox, archive(madeFor(sandbox, some)), pieceBytes)) unpacked++;
      }),
      { numRuns: rounds },
    );
    t.diagnostic(`${unpacked} of ${rounds} were unpacked`);
    assert.ok(unpacked > rounds / 10, 'the property is about something');
  });

  test('flipped bytes: the same', async () => {
    const tar = archive([
      { name: 'd/', type: '5' },
      { name: 'd/file', content: 'content', pax: { mtime: '1.5', 'SCHILY.xattr.user.a': 'b' } },
      { name: 'd/link', type: '2', linkName: '../../outside' },
      { name: 'd/link/secret', content: 'x' },
      { name: '././@LongLink', type: 'L', content: `d/${'long/'.repeat(30)}name\0` },
      { name: 'cut', content: Buffer.alloc(600) },
    ]);
    const flips = fc.array(fc.tuple(fc.nat(tar.length - 1), fc.integer({ min: 1, max: 255 })), {
      minLength: 1,
      maxLength: 4,
    });
    await fc.assert(
      fc.asyncProperty(flips, fc.boolean(), async (changes, isSumKept) => {
        using sandbox = new Sandbox();
        const broken = Buffer.from(tar);
        for (const [at, mask] of changes) broken[at] = (broken[at] ?? 0) ^ mask;
        if (isSumKept) for (const [at] of changes) mend(broken, at - (at % 512));
        await isUnpacked(sandbox, broken, 700);
      }),
      { numRuns: rounds },
    );
  });

  test("tar-stream's archives", async () => {
    const files = fc.uniqueArray(fc.tuple(fc.stringMatching(/^[a-z]{1,3}(\/[a-zü]{1,60}){0,5}$/), content), {
      selector: ([name]) => name,
      maxLength: 10,
    });
    await fc.assert(
      fc.asyncProperty(files, async (some) => {
        using sandbox = new Sandbox();
        const tar = pack();
        for (const [name, bytes] of some) tar.entry({ name: `${name}.f`, size: bytes.length }, bytes);
        tar.finalize();
        const pieces: Buffer[] = [];
        for await (const piece of tar) pieces.push(piece as Buffer);
        await sandbox.unpack(Buffer.concat(pieces), { pieceBytes: 900 });
        for (const [name, bytes] of some)
          assert.ok(readFileSync(join(sandbox.diff, `${name}.f`)).equals(bytes));
      }),
      { numRuns: 60 },
    );
  });

  for (const format of ['v7', 'oldgnu', 'gnu', 'ustar', 'posix']) {
    for (const options of [
      [],
      ['--sparse'],
      ['--sparse', '--sparse-version=0.0'],
      ['--sparse', '--sparse-version=0.1'],
    ]) {
      const isVersioned = options.length > 1;
      if ((isVersioned && format !== 'posix') || (options.length > 0 && ['v7', 'ustar'].includes(format)))
        continue;
      test(`GNU tar's archives: ${[format, ...options].join(' ')}`, async (t) => {
        const source = sandboxFor(t);
        makeTree(source.diff, format);
        const xattrs = format === 'posix' ? ['--xattrs', '--xattrs-include=*'] : [];
        const tar = execFileSync(
          'tar',
          ['-C', source.diff, `--format=${format}`, ...options, ...xattrs, '-c', '.'],
          {
            maxBuffer: 1 << 28,
          },
        );
        const sandbox = sandboxFor(t);
        await sandbox.unpack(tar);
        assert.deepEqual(sandbox.tree(), source.tree());
        const [there, here] = [source, sandbox].map(({ diff }) => lstatSync(join(diff, 'sparse')));
        assert.equal(here?.size, there?.size);
        if (options.length > 0) assert.ok((here?.blocks ?? 0) < 100, 'holes stay holes');
        assert.equal(Math.floor(lstatSync(join(sandbox.diff, 'dir')).mtimeMs / 1000), 1_500_000_000);
      });
    }
  }

  test('a tree of some hundred files', async (t) => {
    const source = fileURLToPath(new URL('../../../node_modules/@types', import.meta.url));
    const tar = execFileSync('tar', ['-C', source, '--owner=0', '--group=0', '-c', '.'], {
      maxBuffer: 1 << 28,
    });
    const sandbox = sandboxFor(t);
    await sandbox.unpack(tar, { pieceBytes: 1 << 17 });
    assert.deepEqual([...treeOf(sandbox.diff).keys()], [...treeOf(source).keys()]);
  });
});

/** Makes a header's checksum right again. */
function mend(tar: Buffer, start: number): void {
  const block = tar.subarray(start, start + 512);
  const sum = block.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 0x20 : byte), 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}

/** Everything that GNU tar can put into an archive of this format. */
function makeTree(root: string, format: string): void {
  const at = (name: string) => join(root, name);
  mkdirSync(at('dir/empty'), { recursive: true });
  writeFileSync(at('dir/file'), 'content');
  writeFileSync(at('empty'), '');
  writeFileSync(at('big'), Buffer.alloc(200_000, 'big'));
  symlinkSync('../else/where', at('dir/link'));
  if (!['v7', 'ustar'].includes(format)) {
    const long = `${'n'.repeat(90)}/${'m'.repeat(90)}`;
    mkdirSync(at(long), { recursive: true });
    writeFileSync(at(`${long}/${'o'.repeat(120)}`), 'deep');
    symlinkSync('t'.repeat(150), at('longlink'));
  }
  writeFileSync(at('sparse'), 'start');
  truncateSync(at('sparse'), 3_000_000);
  const middle = openSync(at('sparse'), 'r+');
  writeSync(middle, 'middle', 1_600_000);
  closeSync(middle);
  linkSync(at('big'), at('again'));
  if (format !== 'v7') {
    makeNode(at('pipe'), constants.S_IFIFO | 0o622, { major: 0, minor: 0 });
    makeNode(at('null'), constants.S_IFCHR | 0o666, { major: 1, minor: 3 });
  }
  chownSync(at('dir/file'), 1000, 50);
  chmodSync(at('dir/file'), 0o4755);
  setXattr(at('dir/file'), 'user.note', Buffer.from('kept'));
  utimesSync(at('dir'), 1_500_000_000, 1_500_000_000);
}
