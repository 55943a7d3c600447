import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { CgroupLayout } from '../../../src/host/cgroup.ts';
import { silentLog } from '../../../src/lib/log.ts';
import { concealControllers } from '../../../src/runtime/concealed-controllers.ts';
import { type RuntimeChoice, Runtimes } from '../../../src/runtime/runtimes.ts';

const unified: CgroupLayout = {
  version: 2,
  isHybrid: false,
  controllers: new Set(['memory']),
  mounts: new Map([['unified', '/sys/fs/cgroup']]),
  hasControllersInUnified: false,
};
const hybrid: CgroupLayout = { ...unified, version: 1, isHybrid: true };
const log = ['--log', '/log', '--log-format', 'text'];
const refused: CgroupLayout = { ...hybrid, hasControllersInUnified: true };

/** A directory with programs that print their version. */
function programs(t: TestContext, ...names: string[]): { directory: string; path: (name: string) => string } {
  const directory = mkdtempSync(join(tmpdir(), 'skt-runtimes-'));
  t.after(() => rmSync(directory, { recursive: true }));
  mkdirSync(join(directory, 'bin'));
  const path = (name: string) => join(directory, 'bin', name);
  for (const name of names) {
    writeFileSync(path(name), `#!/bin/sh\necho ${name} version 1.2.3\necho spec: 1.0\n`);
    chmodSync(path(name), 0o755);
  }
  return { directory, path };
}

function open(
  execRoot: string,
  runtimes: Record<string, RuntimeChoice>,
  cgroups: CgroupLayout,
): Promise<Runtimes> {
  return Runtimes.open({ execRoot, runtimes, defaultRuntime: 'crun', cgroups, log: silentLog });
}

test('the default is what is asked for, where it works', async (t) => {
  const { directory, path } = programs(t, 'crun', 'runc');
  const choices = { crun: { path: path('crun') }, runc: { path: path('runc') } };
  for (const cgroups of [unified, hybrid]) {
    const runtimes = await open(directory, choices, cgroups);
    assert.equal(runtimes.defaultName, 'crun');
    assert.deepEqual(runtimes.warnings, []);
    assert.equal(await runtimes.get('crun').version(), '1.2.3');
  }
});

test('crun is replaced where it refuses the cgroups, under any name, and a warning says so', async (t) => {
  const { directory, path } = programs(t, 'crun', 'runc', 'kata');
  const choices = {
    crun: { path: path('crun') },
    mine: { path: path('crun'), args: ['--debug'] },
    kata: { path: path('kata') },
    runc: { path: path('runc') },
  };
  const runtimes = await open(directory, choices, refused);
  assert.equal(runtimes.defaultName, 'runc');
  assert.equal(runtimes.get('crun').name, 'runc');
  assert.equal(runtimes.get('mine').name, 'runc');
  assert.equal(runtimes.get('kata').name, 'kata');
  assert.deepEqual(runtimes.names(), ['crun', 'kata', 'mine', 'runc']);
  assert.deepEqual(
    runtimes.warnings,
    ['crun', 'mine'].map(
      (name) =>
        `WARNING: OCI runtime ${name} does not support the hybrid cgroup mount of this host, runc is used instead`,
    ),
  );
});

test('where crun can be shown a list without controllers, it stays; only what makes containers needs to be shown it', async (t) => {
  const { directory, path } = programs(t, 'crun', 'runc');
  const choices = { crun: { path: path('crun') }, runc: { path: path('runc') } };
  const usual = { ...refused, mounts: new Map([['unified', '/sys/fs/cgroup/unified']]) };
  const runtimes = await open(directory, choices, usual);
  assert.equal(runtimes.defaultName, 'crun');
  assert.deepEqual(runtimes.warnings, []);
  const crun = runtimes.get('crun');
  assert.deepEqual(crun.args('/log'), ['--root', join(directory, 'oci/crun'), ...log]);
  const { path: program, args } = crun.maker('/log');
  assert.match(program, /\/perl$/);
  assert.deepEqual(args.slice(2), [path('crun'), ...crun.args('/log')]);
  assert.deepEqual(runtimes.get('runc').maker('/log'), {
    path: path('runc'),
    args: runtimes.get('runc').args('/log'),
  });
  assert.equal(concealControllers('/usr/bin/perl', usual, 'mips'), undefined);
  assert.equal(concealControllers(undefined, usual), undefined);
});

test('a default that is not installed is replaced; another one is unknown', async (t) => {
  const { directory, path } = programs(t, 'runc');
  const runtimes = await open(
    directory,
    { crun: { path: path('crun') }, kata: { path: path('kata') }, runc: { path: path('runc') } },
    unified,
  );
  assert.equal(runtimes.defaultName, 'runc');
  assert.deepEqual(runtimes.warnings, ['WARNING: OCI runtime crun is not installed, runc is used instead']);
  assert.throws(() => runtimes.get('kata'), {
    status: 400,
    message: 'unknown or invalid runtime name: kata',
  });
});

test('without any there is no start', async (t) => {
  const { directory, path } = programs(t);
  const choices = { crun: { path: path('crun') }, runc: { path: path('runc') } };
  await assert.rejects(open(directory, choices, unified), { code: 'HOST', message: /not found: install/ });
});

test('state is apart from that of other engines, and errors are plain sentences', async (t) => {
  const { directory, path } = programs(t, 'crun', 'runc');
  const runtimes = await open(directory, { crun: { path: path('crun'), args: ['--x'] } }, unified);
  assert.deepEqual(runtimes.get('crun').args(), [
    '--root',
    join(directory, 'oci/crun'),
    ...['--log', '/dev/null', '--log-format', 'text', '--x'],
  ]);
});
