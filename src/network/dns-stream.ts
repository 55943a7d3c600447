import type { Socket } from 'node:net';
import { MAX_MESSAGE_BYTES } from '../lib/dns-message.ts';

/** DNS over TCP: each message behind its length in 16 bits (RFC 1035, 4.2.2). */

export function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(Math.min(message.length, MAX_MESSAGE_BYTES));
  return Buffer.concat([length, message]);
}

/** The whole messages in a stream, in order. Holds at most one of them and what has just arrived. */
export async function* messagesIn(stream: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  let held: Buffer = Buffer.alloc(0);
  for await (const chunk of stream) {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    while (held.length >= 2 && held.length >= 2 + held.readUInt16BE(0)) {
      const end = 2 + held.readUInt16BE(0);
      yield held.subarray(2, end);
      held = held.subarray(end);
    }
  }
}

/** Resolves when the kernel has taken the bytes, or the connection is gone. */
export async function written(socket: Socket, bytes: Buffer): Promise<void> {
  await new Promise<void>((resolve) => {
    socket.write(bytes, () => resolve());
  });
}
