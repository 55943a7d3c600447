import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import test from 'node:test';
import { temporaryDirectory } from '../../unit/store/fixtures.ts';

// a mount namespace of its own: the small file system goes with its processes, whatever happens
const script = `mount -t tmpfs -o size=32m none "$1" && cd "$1" && "$2" "$3" "$1"; "$2" "$4" "$1"`;

const canMount =
  process.getuid?.() === 0 &&
  spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'none', '/mnt']).status === 0;

test('full disk: reads and a few commits go on, nothing acknowledged before, during or after is lost', {
  skip: canMount ? false : 'needs root and a mount namespace',
}, async (t) => {
  const mountPoint = await temporaryDirectory(t);
  const [life, afterlife] = ['full-disk-child.ts', 'full-disk-reader.ts'].map((name) =>
    join(import.meta.dirname, name),
  );
  const args = [
    '--mount',
    'sh',
    '-c',
    script,
    'sh',
    mountPoint,
    process.execPath,
    life ?? '',
    afterlife ?? '',
  ];
  const { stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8' });
  const [seen, left] = stdout.split('\n').map((line) => (line === '' ? {} : JSON.parse(line)));
  assert.ok(seen?.acknowledged && left?.keys, stderr);
  assert.ok(seen.fullCommits > 0, 'the reserve must let some commits through');
  assert.deepEqual(new Set(seen.failures), new Set(['NO_SPACE']));
  assert.ok(seen.acknowledged.includes('after-19'));
  assert.deepEqual(
    seen.acknowledged.filter((key: string) => !left.keys.includes(key)),
    [],
  );
  assert.equal(left.wasRebuilt, false);
});
