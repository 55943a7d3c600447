import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { skip as skipRunc } from './world.ts';

const skip = skipRunc || (spawnSync('which', ['crun']).status === 0 ? false : 'needs crun');

/** What makes a host of its own out of a mount namespace: unified cgroups, and nothing else. */
const inside =
  'umount --recursive --lazy /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"';

const again: [runtime: string, files: string[]][] = [
  ['crun', ['life', 'exec', 'streams', 'restore']],
  ['runc', ['life', 'exec']],
];

/** The other files again. A test runner that finds itself inside of another runs nothing: hence the mark. */
for (const [runtime, name] of again.flatMap(([by, files]) => files.map((file) => [by, file] as const))) {
  test(`${runtime} with unified cgroups: ${name}`, { skip }, () => {
    const file = join(import.meta.dirname, `${name}.test.ts`);
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const { status, stdout } = spawnSync(
      'unshare',
      ['--mount', '--propagation', 'private', 'sh', '-c', inside, 'sh', process.execPath, '--test', file],
      { encoding: 'utf8', env: { ...env, SKERRY_TEST_RUNTIME: runtime } },
    );
    assert.equal(status, 0, stdout);
  });
}
