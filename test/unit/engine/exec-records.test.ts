import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ExecRecords, type ExecRequest } from '../../../src/engine/exec-records.ts';
import type { ContainerRecord } from '../../../src/engine/model.ts';
import { containerRecord } from '../../support/container-records.ts';

const request: ExecRequest = {
  ...{ attachStdin: false, attachStdout: true, attachStderr: true, tty: false, detachKeys: '' },
  ...{ env: ['A=1'], cmd: ['ls'], privileged: false, user: '', workingDir: '' },
};

function records() {
  const web = containerRecord({ config: { user: 'alice' }, state: { startedAt: '2026-01-01T00:00:00Z' } });
  const containers = new Map<string, ContainerRecord>([[web.id, web]]);
  const clock = { ms: 0 };
  const execs = new ExecRecords(containers, () => clock.ms);
  const ended = () => {
    const exec = execs.add(web, request);
    exec.hasRun = true;
    exec.end(0);
    return exec.id;
  };
  return { web, containers, clock, execs, ended };
}

test('who does not say runs as the container does', () => {
  const { execs, web } = records();
  assert.equal(execs.add(web, request).request.user, 'alice');
  assert.equal(execs.add(web, { ...request, user: '0' }).request.user, '0');
});

test('what has ended is stale after five minutes and forgotten after ten', () => {
  const { execs, clock, ended } = records();
  const id = ended();
  assert.equal(execs.find(id).isStale, false);
  clock.ms = 299_999;
  assert.equal(execs.find(id).isStale, false);
  clock.ms = 300_000;
  assert.equal(execs.find(id).isStale, true);
  clock.ms = 600_000;
  assert.throws(() => execs.find(id), { status: 404, message: `No such exec instance: ${id}` });
});

test('what nobody started goes with the run of its container, and everything with the container', () => {
  const { execs, web, containers, ended } = records();
  const [waiting, over] = [execs.add(web, request).id, ended()];
  assert.deepEqual(execs.idsOf(web.id), [waiting]);
  containers.set(web.id, { ...web, state: { ...web.state, startedAt: '2026-01-02T00:00:00Z' } });
  assert.deepEqual(execs.idsOf(web.id), []);
  assert.throws(() => execs.find(waiting), { status: 404 });
  assert.equal(execs.find(over).exitCode, 0);
  containers.delete(web.id);
  assert.throws(() => execs.show(over), { status: 404, message: `No such exec instance: ${over}` });
  assert.equal(execs.find(over).containerId, web.id); // whose absence is told to who wants it started
});

test('no more than some hundreds are kept, the newest, and never their environment', () => {
  const { execs, web, ended } = records();
  const running = execs.add(web, request);
  running.hasRun = true;
  const [first, second] = [ended(), execs.add(web, request).id];
  assert.equal(execs.find(first).request.env, null);
  for (let n = 0; n < 513; n++) {
    ended();
    execs.add(web, request);
  }
  assert.throws(() => execs.find(first), { status: 404 });
  assert.throws(() => execs.find(second), { status: 404 });
  assert.equal(execs.find(running.id), running);
  assert.equal(execs.idsOf(web.id).length <= 514, true);
});
