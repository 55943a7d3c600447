/** The stream a frame belongs to, as the Docker wire numbers them. */
export type StreamNumber = 1 | 2 | 3;

export const STDOUT = 1;
export const STDERR = 2;
/** The engine's own words in a log stream (`Error grabbing logs: …`). */
export const SYSTEM_ERROR = 3;

/**
 * Wraps bytes in Docker's multiplexing frame: stream number, three zeros, length (unsigned 32-bit, big endian), bytes.
 * Used by logs, attach and exec of processes without a terminal.
 */
export function frame(stream: StreamNumber, payload: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(8 + payload.length);
  framed.writeUInt32BE(stream * 0x1000000, 0);
  framed.writeUInt32BE(payload.length, 4);
  framed.set(payload, 8);
  return framed;
}
