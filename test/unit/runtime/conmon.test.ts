import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conmonArguments } from '../../../src/runtime/conmon.ts';
import { OciRuntime } from '../../../src/runtime/runtimes.ts';

const common = {
  containerId: 'c1',
  runtime: new OciRuntime('crun', '/usr/bin/crun', '/run/s/oci/crun', ['--debug']),
  directory: '/run/s/bundles/c1',
  terminal: false,
  hasStdin: false,
  keepsStdinOpen: false,
};
const container = {
  kind: 'container' as const,
  log: { path: '/data/log', maxBytes: 1000 },
  exitDirectory: '/run/s/exits',
};

test('a container: log, exit file, and the arguments of the runtime', () => {
  const line = conmonArguments({ ...common, task: container }).join(' ');
  assert.equal(
    line,
    '--api-version --cid c1 --cuuid c1 --runtime /usr/bin/crun --runtime-arg --root --runtime-arg /run/s/oci/crun ' +
      '--runtime-arg --log --runtime-arg /run/s/bundles/c1/oci.log --runtime-arg --log-format --runtime-arg text --runtime-arg --debug ' +
      '--bundle /run/s/bundles/c1 --full-attach --persist-dir /run/s/bundles/c1 ' +
      '--container-pidfile /run/s/bundles/c1/pid --conmon-pidfile /run/s/bundles/c1/conmon.pid ' +
      '--exit-dir /run/s/exits --log-path k8s-file:/data/log --no-sync-log --log-size-max 1000',
  );
});

test('streams are as the process wants them; no limit is no option', () => {
  const args = conmonArguments({
    ...common,
    terminal: true,
    hasStdin: true,
    keepsStdinOpen: true,
    task: { ...container, log: { path: '/data/log', maxBytes: 0 } },
  });
  for (const option of ['--terminal', '--stdin', '--leave-stdin-open'])
    assert.ok(args.includes(option), option);
  assert.ok(!args.includes('--log-size-max'));
});

test('an exec writes no log and no exit file', () => {
  const task = { kind: 'exec' as const, processPath: '/p.json', isAttached: true };
  const args = conmonArguments({ ...common, task });
  assert.equal(args.slice(-6).join(' '), '--log-path none --exec --exec-process-spec /p.json --exec-attach');
  assert.ok(!args.includes('--exit-dir'));
  assert.ok(!conmonArguments({ ...common, task: { ...task, isAttached: false } }).includes('--exec-attach'));
});
