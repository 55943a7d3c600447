import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canonicalPort, parseHostPort, parsePort } from '../../../src/lib/port.ts';

test('ports with and without a protocol', () => {
  assert.deepEqual(parsePort('80'), { port: 80, protocol: 'tcp' });
  assert.deepEqual(parsePort('53/UDP'), { port: 53, protocol: 'udp' });
  for (const text of ['99999', 'x', '80/icmp', '']) assert.throws(() => parsePort(text), { status: 400 });
});

test('a port as the API spells it', () => {
  assert.deepEqual(['80', '80/TCP', '053/udp'].map(canonicalPort), ['80/tcp', '80/tcp', '53/udp']);
});

test("the host's side: one, a range, or any", () => {
  assert.deepEqual(parseHostPort(''), { hostPort: 0 });
  assert.deepEqual(parseHostPort('8080'), { hostPort: 8080 });
  assert.deepEqual(parseHostPort('8000-8010'), { hostPort: 8000, hostPortEnd: 8010 });
  for (const text of ['x', '-1', '65536', '99999', '90-80', '80-', '80-65536', '1-2-3', ' 80']) {
    const message = `invalid port specification: "${text}"`;
    assert.throws(() => parseHostPort(text), { status: 400, message });
  }
});
