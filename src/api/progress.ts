import type { Progress, ProgressMessage } from '../engine/progress.ts';
import { escapedJson } from '../lib/json.ts';
import type { ApiContext } from './context.ts';
import { tellingOf } from './failures.ts';
import { beginStream } from './respond.ts';

/** Lines with mere numbers are left out while the client has so much unread: the next ones say it better. */
const COALESCE_BYTES = 64 * 1024;
/** A client that reads nothing at all is dropped. */
const MAX_UNREAD_BYTES = 8 * 1024 * 1024;

/**
 * Answers with the progress of some work, one JSON object per line. The first message commits the answer to 200: what
 * fails before is an HTTP error, what fails later is told in the stream.
 */
export async function answerProgress(
  ctx: ApiContext,
  work: (o: { progress: Progress; signal: AbortSignal }) => Promise<unknown>,
): Promise<void> {
  const { res, state } = ctx;
  const progress: Progress = (message) => {
    if (res.destroyed) return;
    if (!res.headersSent) beginStream(ctx, 'application/json');
    if (res.writableLength > COALESCE_BYTES && isCounting(message)) return;
    res.write(`${escapedJson(message)}\r\n`);
    if (res.writableLength > MAX_UNREAD_BYTES) res.destroy();
  };
  try {
    await work({ progress, signal: state.signal });
  } catch (cause) {
    if (!res.headersSent || state.signal.aborted) throw cause;
    const { message } = tellingOf(ctx, cause);
    progress({ errorDetail: { message }, error: message });
  }
  if (!res.headersSent) beginStream(ctx, 'application/json');
  res.end();
}

function isCounting({ progressDetail }: ProgressMessage): boolean {
  return progressDetail?.current !== undefined;
}
