import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { attribute, nested, readAttributes, readMessages, writeMessages } from '../../../src/lib/netlink.ts';

test('netlink: attributes are padded to 32 bits and carry their true length', () => {
  assert.equal(attribute(3, 'lo').toString('hex'), '070003006c6f0000');
  assert.equal(attribute(4, 1500).toString('hex'), '08000400dc050000');
  assert.equal(nested(2, attribute(1, Buffer.of(7))).toString('hex'), '0c0002800500010007000000');
});

test('netlink: attributes and messages are read back as they were written', () => {
  const value = fc.uint8Array({ maxLength: 40 });
  const types = fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 0x3fff }), value), {
    selector: ([type]) => type,
  });
  fc.assert(
    fc.property(types, (wanted) => {
      const bytes = Buffer.concat(wanted.map(([type, content]) => attribute(type, content)));
      const found = [...readAttributes(bytes)].map(([type, content]) => [type, new Uint8Array(content)]);
      assert.deepEqual(found, wanted);
    }),
  );
  const message = fc.record({ type: fc.nat(0xffff), flags: fc.nat(0xffff), body: value });
  fc.assert(
    fc.property(fc.array(message), fc.nat(1e6), (wanted, sequence) => {
      const sent = writeMessages(
        wanted.map((m) => ({ ...m, body: Buffer.from(m.body) })),
        sequence,
      );
      const found = readMessages(sent).map((m) => ({ ...m, body: new Uint8Array(m.body) }));
      // every message that we write is a request
      const expected = wanted.map((m, index) => ({ ...m, flags: m.flags | 1, sequence: sequence + index }));
      assert.deepEqual(found, expected);
    }),
  );
});

test('netlink: what is cut short or makes no sense ends the reading', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      readAttributes(Buffer.from(bytes));
      readMessages(Buffer.from(bytes));
    }),
  );
  const whole = Buffer.concat([attribute(1, 1), attribute(2, 2)]);
  assert.deepEqual([...readAttributes(whole.subarray(0, 12)).keys()], [1]);
});
