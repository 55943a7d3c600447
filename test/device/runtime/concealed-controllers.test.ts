import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { readCgroupLayout } from '../../../src/host/cgroup.ts';
import { run } from '../../../src/host/exec.ts';
import { isRoot } from '../../../src/host/facts.ts';
import { concealControllers } from '../../../src/runtime/concealed-controllers.ts';
import { findProgram } from '../../../src/runtime/runtimes.ts';

const layout = await readCgroupLayout();
const list = '/sys/fs/cgroup/unified/cgroup.controllers';
const wrapper = layout.hasControllersInUnified ? concealControllers(findProgram('perl'), layout) : undefined;
const skip = !isRoot()
  ? 'needs root'
  : wrapper === undefined && 'this host has no controllers beside the old ones';

/** Others mount and unmount elsewhere all the time. */
function cgroupMounts(lines: readonly string[]): string[] {
  return lines
    .flatMap((line) => line.split(' ')[4] ?? [])
    .filter((place) => place.startsWith('/sys/fs/cgroup'))
    .sort();
}

test('what runs so sees no controllers in the unified hierarchy, and all else as it is; nobody else notices', {
  skip,
}, async () => {
  const script = `cat ${list}; echo; cat /proc/self/mountinfo; exit 7`;
  const before = readFileSync('/proc/self/mountinfo', 'utf8');
  const { code, stdout } = await run(wrapper?.path ?? '', [...(wrapper?.args ?? []), 'sh', '-c', script]);
  assert.equal(code, 7);
  const [seen, ...mounts] = stdout.trimEnd().split('\n');
  assert.equal(seen, '');
  assert.deepEqual(cgroupMounts(mounts), [...cgroupMounts(before.split('\n')), list].sort());
  assert.deepEqual(
    cgroupMounts(readFileSync('/proc/self/mountinfo', 'utf8').split('\n')),
    cgroupMounts(before.split('\n')),
  );
  assert.notEqual(readFileSync(list, 'utf8').trim(), '');
});

test('a program that is not there: a reason and an exit code', { skip }, async () => {
  const { code, stderr } = await run(wrapper?.path ?? '', [...(wrapper?.args ?? []), '/no/such', 'word']);
  assert.notEqual(code, 0);
  assert.match(stderr, /^\/no\/such: No such file or directory/);
});
