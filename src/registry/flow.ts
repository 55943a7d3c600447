import type { Readable } from 'node:stream';
import { fail } from '../errors.ts';
import { Setback } from './setback.ts';
import { SilenceError } from './socket-errors.ts';

/** What must come within `stallMs`, or the connection counts as dead: less than any link that can finish a pull. */
const LEAST_BYTES = 8 * 1024;
/** How often it is looked at in that time. */
const LOOKS = 4;
/** A consumer that took longer than this over a chunk has used up time that was not the server's. */
const HELD_MS = 50;

/**
 * Passes a body on, chunk by chunk, and destroys it with a {@link SilenceError} when it stands still: nothing, or
 * next to nothing, for `stallMs`. Time in which the consumer holds a chunk is not counted.
 */
export async function* flowing(body: Readable, stallMs: number): AsyncGenerator<Buffer> {
  let bytes = 0;
  let quietLooks = 0;
  let isHeld = false;
  const timer = setInterval(() => {
    if (isHeld) return;
    quietLooks = bytes < LEAST_BYTES / LOOKS ? quietLooks + 1 : 0;
    bytes = 0;
    if (quietLooks >= LOOKS) body.destroy(new SilenceError('body'));
  }, stallMs / LOOKS);
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      isHeld = true;
      const heldSince = performance.now();
      yield chunk;
      isHeld = false;
      if (performance.now() - heldSince > HELD_MS) {
        bytes = 0;
        quietLooks = 0;
        timer.refresh();
      }
    }
  } finally {
    clearInterval(timer);
  }
}

/** A body that ended too early, or stood still. */
export function brokenOff(cause?: unknown): Setback {
  const why = cause instanceof SilenceError ? cause.message : 'unexpected EOF';
  return new Setback(fail.registryUnreachable(why, cause), { isPassing: true });
}
