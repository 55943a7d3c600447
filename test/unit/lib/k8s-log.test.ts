import assert from 'node:assert/strict';
import { test } from 'node:test';
import { endsLine, parseK8sRecord } from '../../../src/lib/k8s-log.ts';

const parse = (text: string) => parseK8sRecord(Buffer.from(text));

test('a whole line keeps its newline, a part has none', () => {
  assert.deepEqual(parse('2026-11-20T20:55:05.386113354+00:00 stdout F hello  world\n'), {
    stream: 1,
    timeNanos: 1795208105386113354n,
    isPartial: false,
    data: Buffer.from('hello  world\n'),
  });
  assert.deepEqual(parse('2026-11-20T21:55:05.5+01:00 stderr P half\n'), {
    stream: 2,
    timeNanos: 1795208105500000000n,
    isPartial: true,
    data: Buffer.from('half'),
  });
});

test('empty lines, further tags and any bytes', () => {
  assert.deepEqual(parse('2026-11-20T20:55:05Z stdout F \n')?.data, Buffer.from('\n'));
  assert.equal(parse('2026-11-20T20:55:05Z stdout P:x \n')?.isPartial, true);
  assert.equal(parse('2026-11-20T20:55:05Z stdout F:P a\n')?.isPartial, false);
  const bytes = Buffer.concat([
    Buffer.from('2026-11-20T20:55:05Z stdout F '),
    Buffer.from([0, 255, 13]),
    Buffer.from('\n'),
  ]);
  assert.deepEqual(parseK8sRecord(bytes)?.data, Buffer.from([0, 255, 13, 10]));
});

test('what is no record is undefined', () => {
  for (const text of [
    '',
    '\n',
    'x\n',
    'a b c d\n',
    '2026-11-20T20:55:05Z stdin F x\n',
    '2026-11-20T20:55:05Z stdout F x',
    '2026-13-20T20:55:05Z stdout F x\n',
  ])
    assert.equal(parse(text), undefined, text);
});

test('the head alone tells whether a line ends', () => {
  assert.equal(endsLine(Buffer.from('2026-11-20T20:55:05Z stdout F P \n')), true);
  assert.equal(endsLine(Buffer.from('2026-11-20T20:55:05Z stdout P F \n')), false);
});
