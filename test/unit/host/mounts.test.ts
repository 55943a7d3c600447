import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mountsUnder, parseMounts } from '../../../src/host/mounts.ts';

test('mountinfo lines are read with any number of optional fields', () => {
  const mounts = parseMounts(
    [
      '27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard',
      '35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory',
      '42 27 254:0 /run/netns /run/netns rw shared:1 master:7 propagate_from:2 - ext4 /dev/vda rw',
      '50 27 0:50 / /merged rw - overlay overlay rw,lowerdir=a:b,upperdir=u - v,workdir=w',
      '',
    ].join('\n'),
  );
  assert.deepEqual(
    mounts.map(({ mountPoint, type }) => [mountPoint, type]),
    [
      ['/', 'ext4'],
      ['/sys/fs/cgroup/memory', 'cgroup'],
      ['/run/netns', 'ext4'],
      ['/merged', 'overlay'],
    ],
  );
  assert.deepEqual(mounts[1]?.superOptions, ['rw', 'memory']);
  assert.equal(mounts[0]?.source, '/dev/vda');
});

test('escaped characters in mount points are given back', () => {
  const [mount] = parseMounts('1 0 0:1 / /a\\040b\\011c\\012d\\134e\\043/é rw - tmpfs none rw');
  assert.equal(mount?.mountPoint, '/a b\tc\nd\\e#/é');
});

test('lines that are none are passed over', () => {
  assert.deepEqual(parseMounts('garbage\n1 2 3\n\n- - -\n'), []);
});

test('this machine: everything is under the root, /proc is under itself, nothing is under a file name that is free', async () => {
  const all = await mountsUnder('/');
  assert.ok(all.includes('/'));
  assert.ok(all.includes('/proc'));
  assert.ok((await mountsUnder('/proc')).includes('/proc'));
  assert.deepEqual(await mountsUnder('/pro'), []);
  assert.deepEqual(await mountsUnder('/no/such/place'), []);
});
