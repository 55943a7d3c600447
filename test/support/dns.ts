import assert from 'node:assert/strict';
import { nameBytes, TYPE } from '../../src/lib/dns-message.ts';

/** A query as a client sends it. */
export function queryBytes(
  name: string,
  o: { type?: number; id?: number; flags?: number; edns?: number } = {},
): Buffer {
  const { type = TYPE.A, id = 7, flags = 0x0100, edns } = o;
  const wire = nameBytes(name);
  assert.ok(wire);
  const head = Buffer.from([id >> 8, id & 255, flags >> 8, flags & 255, 0, 1, 0, 0, 0, 0, 0, edns ? 1 : 0]);
  const opt = edns ? Buffer.from([0, 0, 41, edns >> 8, edns & 255, 0, 0, 0, 0, 0, 0]) : Buffer.alloc(0);
  return Buffer.concat([head, wire, Buffer.of(0, type, 0, 1), opt]);
}
