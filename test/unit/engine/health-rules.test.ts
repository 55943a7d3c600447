import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  afterProbe,
  commandOfCheck,
  type Health,
  nextProbeMs,
  probeTimeoutMs,
} from '../../../src/engine/health-rules.ts';

const second = 1_000_000_000;
const fresh: Health = { status: 'starting', failingStreak: 0, log: [] };
const ended = (exitCode: number) => ({ start: '', end: '', exitCode, output: '' });

test('what is run: words as they are, a text by the shell, nothing for NONE and what is unknown', () => {
  const command = (test: string[], shell?: string[]) =>
    commandOfCheck({ healthcheck: { test }, ...(shell && { shell }) });
  assert.deepEqual(command(['CMD', 'a', 'b c']), ['a', 'b c']);
  assert.deepEqual(command(['CMD-SHELL', 'a || b']), ['/bin/sh', '-c', 'a || b']);
  assert.deepEqual(command(['CMD-SHELL', 'a'], ['/bin/ash', '-ec']), ['/bin/ash', '-ec', 'a']);
  for (const none of [['NONE'], ['CMD-OTHER', 'a'], []]) assert.equal(command(none), undefined);
  assert.equal(commandOfCheck({}), undefined);
});

test('dockerd defaults, and the start interval while the start period lasts and nothing was well', () => {
  assert.equal(nextProbeMs({}, 'starting', 0), 30_000);
  assert.equal(nextProbeMs({ startPeriod: 60 * second }, 'starting', 59_999), 5000);
  assert.equal(nextProbeMs({ startPeriod: 60 * second, startInterval: second }, 'starting', 0), 1000);
  assert.equal(nextProbeMs({ startPeriod: 60 * second, interval: 2 * second }, 'starting', 60_000), 2000);
  assert.equal(nextProbeMs({ startPeriod: 60 * second, interval: 2 * second }, 'healthy', 0), 2000);
  assert.equal(probeTimeoutMs({}), 30_000);
  assert.equal(probeTimeoutMs({ timeout: 1_500_000 }), 1.5);
  assert.ok(nextProbeMs({ interval: 1e9 * second }, 'healthy', 0) < 2 ** 31);
});

test('three failures in a row, unless more are allowed, make it unhealthy; one success makes it well', () => {
  let health = fresh;
  const statuses = [1, 1, 0, 1, 2, -1, 137, 0].map((code) => {
    health = afterProbe(health, ended(code), {}, 1e9);
    return `${health.status} ${health.failingStreak}`;
  });
  assert.deepEqual(statuses, [
    'starting 1',
    'starting 2',
    'healthy 0',
    'healthy 1',
    'healthy 2',
    'unhealthy 3',
    'unhealthy 4',
    'healthy 0',
  ]);
  assert.deepEqual(
    health.log.map(({ exitCode }) => exitCode),
    [1, 2, -1, 137, 0],
  );
  assert.equal(afterProbe(fresh, ended(1), { retries: 1 }, 0).status, 'unhealthy');
});

test('failures in the start period do not count, until it has been well once', () => {
  const check = { startPeriod: 10 * second, retries: 1 };
  const early = afterProbe(fresh, ended(1), check, 9999);
  assert.deepEqual([early.status, early.failingStreak, early.log.length], ['starting', 0, 1]);
  assert.equal(afterProbe(early, ended(1), check, 10_000).status, 'unhealthy');
  const well = afterProbe(early, ended(0), check, 100);
  assert.equal(afterProbe(well, ended(1), check, 200).status, 'unhealthy');
});
