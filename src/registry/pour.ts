import type { ClientRequest } from 'node:http';
import type { Readable } from 'node:stream';
import { withResolvers } from '../lib/promises.ts';
import type { SilenceWatch } from './silence-watch.ts';

/** So small that a link which can finish an upload at all takes one in the time that counts as silence. */
const PIECE_BYTES = 16 * 1024;

/** A body failed by itself, whatever the connection did. */
export class BodyError extends Error {
  constructor(cause: unknown) {
    super('a request body failed', { cause });
    this.name = 'BodyError';
  }
}

/**
 * Sends a body through a request and destroys it. It holds one chunk of the body at a time, besides what the socket
 * buffers. Ends early and without a word once the server has answered or the connection is gone: the request itself
 * tells of both. Throws a {@link BodyError}, and destroys the request, if the body fails.
 */
export async function pour(body: Readable, outgoing: ClientRequest, watch: SilenceWatch): Promise<void> {
  let isOver = false;
  let wake = () => {};
  const onDrain = () => wake();
  const onOver = () => {
    isOver = true;
    body.destroy();
    wake();
  };
  outgoing.on('drain', onDrain);
  for (const event of ['response', 'error', 'close']) outgoing.on(event, onOver);
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      for (let at = 0; at < chunk.length && !isOver; at += PIECE_BYTES) {
        if (outgoing.write(chunk.subarray(at, at + PIECE_BYTES))) continue;
        const { promise, resolve } = withResolvers<void>();
        wake = resolve;
        watch.pieceIsDue();
        await promise;
        watch.nothingIsDue();
      }
    }
    if (isOver) return;
    outgoing.end();
    watch.answerIsDue();
  } catch (cause) {
    if (isOver) return;
    outgoing.destroy();
    throw new BodyError(cause);
  } finally {
    body.destroy();
    outgoing.off('drain', onDrain);
    for (const event of ['response', 'error', 'close']) outgoing.off(event, onOver);
  }
}
