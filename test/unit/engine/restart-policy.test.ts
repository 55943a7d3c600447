import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextDelayMs, wantsRestart, wantsStartAtBoot } from '../../../src/engine/restart-policy.ts';
import { RestartTimers } from '../../../src/engine/restart-timers.ts';
import { containerRecord, endedState } from '../../support/container-records.ts';

const ended = (
  policy: string,
  o: { exitCode?: number; max?: number; count?: number; byUser?: boolean } = {},
) =>
  containerRecord({
    hostConfig: { restartPolicy: { name: policy, maximumRetryCount: o.max ?? 0 } },
    state: { ...endedState, exitCode: o.exitCode ?? 0 },
    restartCount: o.count ?? 0,
    isStoppedByUser: o.byUser ?? false,
  });

test('what each policy wants after an exit', () => {
  for (const policy of ['', 'no']) assert.ok(!wantsRestart(ended(policy, { exitCode: 1 })));
  for (const policy of ['always', 'unless-stopped']) {
    assert.ok(wantsRestart(ended(policy)));
    assert.ok(!wantsRestart(ended(policy, { byUser: true })));
  }
  assert.ok(!wantsRestart(ended('on-failure')));
  assert.ok(wantsRestart(ended('on-failure', { exitCode: 1, count: 99 })));
  assert.ok(wantsRestart(ended('on-failure', { exitCode: 1, max: 3, count: 2 })));
  assert.ok(!wantsRestart(ended('on-failure', { exitCode: 1, max: 3, count: 3 })));
});

test('at boot `always` comes back even if a user stopped it, and what never ran stays so', () => {
  assert.ok(wantsStartAtBoot(ended('always', { byUser: true })));
  assert.ok(!wantsStartAtBoot(ended('unless-stopped', { byUser: true })));
  assert.ok(wantsStartAtBoot(ended('unless-stopped')));
  const fresh = ended('always');
  assert.ok(!wantsStartAtBoot({ ...fresh, state: { ...fresh.state, status: 'created' } }));
});

test('the delay doubles up to a minute, and begins anew after a run that lasted', () => {
  const delays = [0];
  for (let n = 0; n < 12; n++) delays.push(nextDelayMs(delays.at(-1) ?? 0, 50));
  assert.deepEqual(delays.slice(1, 5), [100, 200, 400, 800]);
  assert.equal(delays.at(-1), 60_000);
  assert.equal(nextDelayMs(60_000, 10_000), 100);
  assert.equal(nextDelayMs(400, -5), 800); // the clock was set back
});

test('a run that is cancelled does not come', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  using timers = new RestartTimers();
  let runs = 0;
  const record = ended('always');
  timers.schedule(record, () => runs++);
  t.mock.timers.tick(99);
  assert.equal(runs, 0);
  t.mock.timers.tick(1);
  assert.equal(runs, 1);
  timers.schedule(record, () => runs++);
  timers.cancel(record.id);
  t.mock.timers.tick(100_000);
  assert.equal(runs, 1);
  timers.schedule(record, () => runs++); // the third in a row: 400 ms
  t.mock.timers.tick(399);
  assert.equal(runs, 1);
  t.mock.timers.tick(1);
  assert.equal(runs, 2);
  timers.forget(record.id);
  timers.schedule(record, () => runs++);
  t.mock.timers.tick(100);
  assert.equal(runs, 3);
});
