import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import test from 'node:test';
import fc from 'fast-check';
import {
  acceptOf,
  FrameReader,
  messageFrame,
  type Piece,
  ProtocolError,
} from '../../../src/lib/websocket.ts';

/** A frame as clients send it. */
function clientFrame(payload: Buffer, { opcode = 2, isFinal = true } = {}): Buffer {
  const frame = messageFrame(2, payload);
  const headBytes = frame.length - payload.length;
  const mask = randomBytes(4);
  const head = Buffer.from(frame.subarray(0, headBytes));
  head[0] = (isFinal ? 0x80 : 0) | opcode;
  head[1] = (head[1] ?? 0) | 0x80;
  return Buffer.concat([head, mask, payload.map((byte, at) => byte ^ (mask[at % 4] ?? 0))]);
}

function read(chunks: readonly Buffer[]): Piece[] {
  const reader = new FrameReader();
  return chunks.flatMap((chunk) => [...reader.push(chunk)]);
}

const dataOf = (pieces: readonly Piece[]) =>
  Buffer.concat(pieces.flatMap((piece) => (piece.kind === 'data' ? [piece.bytes] : [])));

test('the answer to a key, by the example of RFC 6455', () => {
  assert.equal(acceptOf('dGhlIHNhbXBsZSBub25jZQ=='), 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
});

test('heads of every length', () => {
  for (const [bytes, head] of [
    [0, '8200'],
    [125, '827d'],
    [126, '827e007e'],
    [65535, '827effff'],
    [65536, '827f0000000000010000'],
  ] as const) {
    const frame = messageFrame(2, Buffer.alloc(bytes));
    assert.equal(frame.toString('hex', 0, head.length / 2), head);
    assert.equal(frame.length, head.length / 2 + bytes);
  }
});

test('whatever is sent is read, in messages and parts of any size, cut anywhere, with pings between', () => {
  const part = fc.record({ bytes: fc.uint8Array({ maxLength: 300 }), hasPing: fc.boolean() });
  fc.assert(
    fc.property(
      fc.array(fc.array(part, { minLength: 1, maxLength: 4 })),
      fc.integer({ min: 1, max: 400 }),
      (messages, cut) => {
        const sent = messages.flatMap((parts) =>
          parts.flatMap(({ bytes, hasPing }, at) => [
            clientFrame(Buffer.from(bytes), { opcode: at === 0 ? 2 : 0, isFinal: at === parts.length - 1 }),
            ...(hasPing ? [clientFrame(Buffer.from('hey'), { opcode: 9 })] : []),
          ]),
        );
        const wire = Buffer.concat(sent);
        const chunks = Array.from({ length: Math.ceil(wire.length / cut) }, (_, n) =>
          wire.subarray(n * cut, (n + 1) * cut),
        );
        const pieces = read(chunks);
        assert.deepEqual(dataOf(pieces), Buffer.concat(messages.flat().map(({ bytes }) => bytes)));
        const pings = pieces.filter((piece) => piece.kind === 'control');
        assert.equal(pings.length, messages.flat().filter(({ hasPing }) => hasPing).length);
        for (const { bytes } of pings) assert.equal(bytes.toString(), 'hey');
      },
    ),
  );
});

test('what breaks the rules is refused', () => {
  const long = Buffer.alloc(14, 0xff);
  long[0] = 0x82;
  for (const [what, bytes] of [
    ['not masked', messageFrame(2, Buffer.from('x'))],
    ['an extension', Buffer.from('c2808080', 'hex')],
    ['an opcode that is none', Buffer.from('8380', 'hex')],
    ['a control opcode that is none', Buffer.from('8b80', 'hex')],
    ['a control frame in parts', Buffer.from('0980', 'hex')],
    ['a control frame that is long', Buffer.from('89fe', 'hex')],
    ['a part without a beginning', Buffer.from('8080', 'hex')],
    [
      'a beginning within a message',
      Buffer.concat([clientFrame(Buffer.alloc(1), { isFinal: false }), clientFrame(Buffer.alloc(1))]),
    ],
    ['more than there can be', long],
  ] as const) {
    assert.throws(() => read([bytes]), ProtocolError, what);
  }
});

test('a frame of any size is given on as it comes, and nothing of it is kept', () => {
  const reader = new FrameReader();
  const head = Buffer.from('82ff0000100000000000aabbccdd', 'hex'); // 16 TB
  assert.deepEqual([...reader.push(head)], []);
  for (let round = 0; round < 50; round++) {
    const given = [...reader.push(Buffer.alloc(65536))].reduce((sum, { bytes }) => sum + bytes.length, 0);
    assert.equal(given, 65536);
  }
});
