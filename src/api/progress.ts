import type { Progress, ProgressMessage } from '../engine/progress.ts';
import { escapedJson } from '../lib/json.ts';
import { discardBody } from './body.ts';
import type { ApiContext } from './context.ts';
import { beginStream } from './respond.ts';

/** Lines with mere numbers are left out while the client has so much unread: the next ones say it better. */
const COALESCE_BYTES = 64 * 1024;
/** A client that reads nothing at all is dropped. */
const MAX_UNREAD_BYTES = 8 * 1024 * 1024;

/**
 * Answers with the progress of some work, one JSON object per line. The first message commits the answer to 200: what
 * fails before is an HTTP error, what fails later is told in the stream; with `isAlways200` all of it is. With
 * `takesBody`, work that reads the body as a stream: the rest of it is thrown away before the answer ends.
 */
export async function answerProgress(
  ctx: ApiContext,
  work: (o: { progress: Progress; signal: AbortSignal }) => Promise<unknown>,
  { takesBody = false, isAlways200 = false }: { takesBody?: boolean; isAlways200?: boolean } = {},
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
    if ((!res.headersSent && !isAlways200) || state.signal.aborted) {
      if (takesBody) await discardBody(ctx);
      throw cause;
    }
    const { message } = state.tell(cause);
    progress({ errorDetail: { message }, error: message });
  }
  if (!res.headersSent) beginStream(ctx, 'application/json');
  if (takesBody) await discardBody(ctx);
  res.end();
}

function isCounting({ progressDetail }: ProgressMessage): boolean {
  return progressDetail?.current !== undefined;
}
