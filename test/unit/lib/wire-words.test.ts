import assert from 'node:assert/strict';
import test from 'node:test';
import { Failure } from '../../../src/errors.ts';
import { parseInteger, parseUnixNanos } from '../../../src/lib/go-numbers.ts';
import { humanDuration } from '../../../src/lib/human-duration.ts';
import { parseMediaType } from '../../../src/lib/media-type.ts';

test('integers as strconv reads them', () => {
  for (const [text, value] of [
    ['0', 0],
    ['+7', 7],
    ['-12', -12],
    ['007', 7],
    ['9223372036854775807', 2 ** 63],
  ] as const) {
    assert.equal(parseInteger(text), value);
  }
  for (const [text, reason] of [
    ['', 'invalid syntax'],
    ['1.5', 'invalid syntax'],
    [' 1', 'invalid syntax'],
    ['1_0', 'invalid syntax'],
    ['0x1', 'invalid syntax'],
    ['9223372036854775808', 'value out of range'],
    ['-9223372036854775809', 'value out of range'],
  ]) {
    const message = `strconv.Atoi: parsing ${JSON.stringify(text)}: ${reason}`;
    assert.throws(() => parseInteger(text ?? '', { status: 400 }), { message, status: 400 });
  }
});

test('times in seconds with a fraction', () => {
  for (const [text, nanos] of [
    ['0', 0n],
    ['1700000000', 1_700_000_000_000_000_000n],
    ['1.5', 1_500_000_000n],
    ['1.000000001', 1_000_000_001n],
    ['1.0000000019', 1_000_000_001n],
    ['-1.5', -500_000_000n],
  ] as const) {
    assert.equal(parseUnixNanos(text), nanos);
  }
  for (const text of ['', 'zz', '1.', '1.x', '5m', '2024-01-01']) {
    assert.throws(
      () => parseUnixNanos(text),
      (cause) => cause instanceof Failure && cause.status === 500,
    );
  }
});

test('media types and what is wrong with them', () => {
  for (const [text, expected] of [
    ['application/json', { type: 'application/json' }],
    ['Application/JSON; charset=utf-8', { type: 'application/json' }],
    ['application/json;charset="utf-8";x=y', { type: 'application/json' }],
    [' application/json ;', { type: 'application/json' }],
    ['json', { type: 'json' }],
    ['', { problem: 'mime: no media type' }],
    ['///', { problem: 'mime: no media type' }],
    ['a b', { problem: 'mime: expected slash after first token' }],
    ['a/', { problem: 'mime: expected token after slash' }],
    ['a/b c', { problem: 'mime: unexpected content after media subtype' }],
    ['a/b; c', { problem: 'mime: invalid media parameter' }],
    ['a/b; c=d; C=e', { problem: 'mime: duplicate parameter name' }],
  ] as const) {
    assert.deepEqual(parseMediaType(text), expected, text);
  }
});

test('durations for people', () => {
  const [second, minute, hour, day] = [1000, 60_000, 3_600_000, 86_400_000];
  for (const [ms, expected] of [
    [-5, 'Less than a second'],
    [999, 'Less than a second'],
    [second, '1 second'],
    [59 * second, '59 seconds'],
    [minute, 'About a minute'],
    [2 * minute, '2 minutes'],
    [59.9 * minute, '59 minutes'],
    [hour, 'About an hour'],
    [1.5 * hour, '2 hours'],
    [47 * hour, '47 hours'],
    [48 * hour, '2 days'],
    [14 * day, '2 weeks'],
    [60 * day, '2 months'],
    [729 * day, '24 months'],
    [730 * day, '2 years'],
  ] as const) {
    assert.equal(humanDuration(ms), expected);
  }
});
