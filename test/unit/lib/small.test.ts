import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chainIds } from '../../../src/lib/chain-id.ts';
import { DetachFilter, parseDetachKeys } from '../../../src/lib/detach-keys.ts';
import { type Digest, digestOf } from '../../../src/lib/digest.ts';
import { Disposal } from '../../../src/lib/disposal.ts';
import { frame } from '../../../src/lib/frames.ts';
import { newId, randomName } from '../../../src/lib/ids.ts';
import { parseImageConfig } from '../../../src/lib/image-config.ts';
import { parsePort } from '../../../src/lib/port.ts';
import { formatBytes, progressBar } from '../../../src/lib/progress-bar.ts';
import { parseSignal } from '../../../src/lib/signals.ts';
import { formatNanos, nowNanos, parseNanos } from '../../../src/lib/time.ts';

test('a frame is stream, three zeros, length, bytes', () => {
  assert.equal(frame(2, Buffer.from('err\n')).toString('hex'), '0200000000000004' + '6572720a');
});

test('IDs are 64 hex digits whose short form is never a number', () => {
  for (let i = 0; i < 200; i++) assert.match(newId(), /^(?=.{0,11}[a-f])[0-9a-f]{64}$/);
  assert.match(randomName(), /^[a-z]+_[a-z]+$/);
  assert.match(randomName(2), /^[a-z]+_[a-z]+\d+$/);
});

test('signals by number, name and real-time offset', () => {
  assert.deepEqual(
    ['9', 'KILL', 'SIGKILL', 'sigterm', 'RTMIN+3', 'SIGRTMAX-1'].map(parseSignal),
    [9, 9, 9, 15, 37, 63],
  );
  for (const text of ['0', '65', 'BOGUS', '', 'RTMIN-1'])
    assert.throws(() => parseSignal(text), { status: 400 });
});

test('times keep their nanoseconds both ways', () => {
  for (const text of [
    '2026-11-20T17:22:29.83553196Z',
    '1970-01-01T00:00:00Z',
    '2026-01-01T00:00:00.000000001Z',
  ]) {
    assert.equal(formatNanos(parseNanos(text) ?? -1n), text);
  }
  assert.equal(parseNanos('2026-11-20T18:00:00+01:00'), parseNanos('2026-11-20T17:00:00Z'));
  assert.equal(parseNanos('yesterday'), undefined);
  const times = Array.from({ length: 1000 }, nowNanos);
  assert.ok(times.every((time, at) => at === 0 || time > (times[at - 1] ?? time)));
  assert.ok(Math.abs(Number((times[0] ?? 0n) / 1_000_000n) - Date.now()) < 1000);
});

test('chain IDs as the image spec computes them', () => {
  const [a, b] = [digestOf('a'), digestOf('b')];
  assert.deepEqual(chainIds([a, b]), [a, digestOf(`${a} ${b}`)]);
  assert.deepEqual(chainIds([] as Digest[]), []);
});

test('ports with and without a protocol', () => {
  assert.deepEqual(parsePort('80'), { port: 80, protocol: 'tcp' });
  assert.deepEqual(parsePort('53/UDP'), { port: 53, protocol: 'udp' });
  for (const text of ['99999', 'x', '80/icmp', '']) assert.throws(() => parsePort(text), { status: 400 });
});

test('detach keys: held back while they may come, swallowed when they do', () => {
  assert.equal(parseDetachKeys(undefined).toString('hex'), '1011');
  assert.equal(parseDetachKeys('ctrl-a').toString('hex'), '01');
  assert.throws(() => parseDetachKeys('zzz'), { status: 400, message: 'Invalid detach keys (zzz) provided' });
  const filter = new DetachFilter(parseDetachKeys('ctrl-p,ctrl-q'));
  assert.equal(filter.push(Buffer.from('a\x10')).bytes.toString(), 'a');
  assert.equal(filter.push(Buffer.from('b')).bytes.toString(), '\x10b');
  assert.deepEqual(filter.push(Buffer.from('c\x10\x11d')), { bytes: Buffer.from('c'), isDetached: true });
});

test('bytes as people read them', () => {
  assert.deepEqual([0, 999, 28_230_000, 1_500_000_000].map(formatBytes), ['0B', '999B', '28.23MB', '1.5GB']);
  assert.match(progressBar(50, 100), /^\[=+> +\] {6}50B\/100B$/);
  assert.equal(progressBar(0, 0), '');
});

test('a hostile image config is an empty one', () => {
  for (const text of ['', 'null', '[]', '5', '{"config":7}', '{"config":{"Env":5,"Labels":{"a":1}}}']) {
    const { config } = parseImageConfig(text);
    assert.deepEqual(config?.Env ?? null, null);
    assert.deepEqual(config?.Labels ?? null, null);
  }
  assert.deepEqual(parseImageConfig('{"config":{"Env":["A=1"],"Cmd":9}}').config?.Env, ['A=1']);
});

test('owners close backwards, all of them, and the first error is thrown', async () => {
  const seen: number[] = [];
  const disposal = new Disposal();
  for (const n of [1, 2, 3]) {
    disposal.defer(() => {
      seen.push(n);
      if (n === 2) throw new Error('two');
    });
  }
  await assert.rejects(disposal[Symbol.asyncDispose](), /two/);
  assert.deepEqual(seen, [3, 2, 1]);
  await disposal[Symbol.asyncDispose]();
});
