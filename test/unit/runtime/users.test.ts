import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { resolveUser } from '../../../src/runtime/users.ts';

const passwd = `root:x:0:0:root:/root:/bin/sh
# a comment
alice:x:1000:1001::/home/alice:/bin/sh
broken:x:abc
7:x:1007:1007::/home/seven:/bin/sh
homeless:x:1008:1008:::
`;
const group = `root:x:0:root
wheel:x:10:root,alice
dialout:x:20:alice
alice:x:1001:
`;

function rootfs(t: TestContext, files: Record<string, string> = { passwd, group }): string {
  const root = mkdtempSync(join(tmpdir(), 'skt-users-'));
  t.after(() => rmSync(root, { recursive: true }));
  mkdirSync(join(root, 'etc'));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(root, 'etc', name), text);
  return root;
}

test('users and groups by name and number', async (t) => {
  const root = rootfs(t);
  for (const [user, uid, gid, additionalGids, home] of [
    ['', 0, 0, [0, 0, 10], '/root'],
    ['root', 0, 0, [0, 0, 10], '/root'],
    ['alice', 1000, 1001, [1001, 10, 20], '/home/alice'],
    ['1000', 1000, 1001, [1001, 10, 20], '/home/alice'],
    ['alice:dialout', 1000, 20, [20], '/home/alice'],
    ['alice:77', 1000, 77, [77], '/home/alice'],
    ['4711', 4711, 0, [0], '/'],
    ['4711:4712', 4711, 4712, [4712], '/'],
    [':wheel', 0, 10, [10], '/root'],
    ['7', 7, 0, [0], '/'], // a number is a number, though there is such a name
    ['homeless', 1008, 1008, [1008], '/'],
  ] as const) {
    assert.deepEqual(await resolveUser(root, user), { uid, gid, additionalGids, home }, user);
  }
});

test('further groups', async (t) => {
  const root = rootfs(t);
  const { additionalGids } = await resolveUser(root, 'alice', ['wheel', '555', '555']);
  assert.deepEqual(additionalGids, [1001, 10, 20, 10, 555]);
});

test('no files are needed for numbers', async (t) => {
  const root = rootfs(t, {});
  assert.deepEqual(await resolveUser(root, '5:6', ['7']), {
    uid: 5,
    gid: 6,
    additionalGids: [6, 7],
    home: '/',
  });
  assert.deepEqual(await resolveUser(root, ''), { uid: 0, gid: 0, additionalGids: [0], home: '/' });
});

test('what is missing is told in the words of dockerd', async (t) => {
  const root = rootfs(t);
  for (const [user, groups, message] of [
    ['nosuch', [], 'unable to find user nosuch: no matching entries in passwd file'],
    ['root:zz', [], 'unable to find group zz: no matching entries in group file'],
    ['root', ['zz'], 'Unable to find group zz: no matching entries in group file'],
    ['4294967296', [], 'uids and gids must be in range 0-2147483647'],
    ['0:-1', [], 'uids and gids must be in range 0-2147483647'],
  ] as const) {
    await assert.rejects(resolveUser(root, user, groups), { status: 500, message });
  }
});

test('links lead no further than the root of the container', async (t) => {
  const root = rootfs(t, { group });
  mkdirSync(join(root, 'real'));
  writeFileSync(join(root, 'real/passwd'), 'inside:x:42:42::/in:/bin/sh\n');
  symlinkSync('../../../../../../real/passwd', join(root, 'etc/passwd'));
  assert.equal((await resolveUser(root, 'inside')).uid, 42);
  await assert.rejects(resolveUser(root, 'daemon'), { code: 'NO_SUCH_USER' }); // the host's passwd has it
});

test('a pipe or a file without end does not hold anyone up', async (t) => {
  const root = rootfs(t, { group, passwd });
  rmSync(join(root, 'etc/passwd'));
  execFileSync('mkfifo', [join(root, 'etc/passwd')]);
  await assert.rejects(resolveUser(root, 'alice'), { code: 'RUNTIME' });
  rmSync(join(root, 'etc/passwd'));
  writeFileSync(join(root, 'etc/passwd'), '');
  truncateSync(join(root, 'etc/passwd'), 2 ** 40);
  await assert.rejects(resolveUser(root, 'alice'), { code: 'RUNTIME' });
});
