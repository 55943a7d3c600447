import { Readable } from 'node:stream';
import { fail } from '../errors.ts';
import { brokenOff, flowing } from './flow.ts';
import { failureOf, Setback } from './setback.ts';
import { readBounded, type Transport } from './transport.ts';

/** A file that comes from a URL. */
export interface Download {
  /** What was asked for, without the credentials in it. */
  readonly url: URL;
  /** Unknown if the server does not say. */
  readonly totalBytes: number | undefined;
  /** Fails if it breaks off or stands still. */
  readonly body: Readable;
}

const MOST_COMPLAINT_BYTES = 4096;

/** The statuses that clients are to see as they are; others are 500. */
const told = [400, 401, 403, 404];

/** Gets a file that is in no registry. Failures are in dockerd's words. */
export async function download(
  transport: Pick<Transport, 'send'>,
  asked: URL,
  o: { stallMs: number; signal: AbortSignal },
): Promise<Download> {
  const { url, headers } = withoutCredentials(asked);
  const outgoing = { headers, isVerified: true, signal: o.signal };
  const answer = await transport.send(url, outgoing).catch((cause: unknown) => {
    throw failureOf(cause);
  });
  if (answer.status >= 300) {
    const text = await readBounded(answer, MOST_COMPLAINT_BYTES, o).catch(() => undefined);
    const why = `failed to GET ${url.href} with status ${answer.status} ${answer.statusText}`;
    throw fail.registry(`${why}: ${text?.toString().trim() ?? ''}`, {
      status: told.includes(answer.status) ? answer.status : 500,
    });
  }
  const length = answer.headers['content-length'];
  return {
    url,
    totalBytes: length === undefined ? undefined : Number(length),
    body: Readable.from(whole(answer.body, o), { objectMode: false }),
  };
}

async function* whole(
  body: Readable,
  o: { stallMs: number; signal: AbortSignal },
): AsyncGenerator<Buffer, void, void> {
  try {
    yield* flowing(body, o.stallMs);
  } catch (cause) {
    o.signal.throwIfAborted();
    throw failureOf(cause instanceof Setback ? cause : brokenOff(cause));
  } finally {
    body.destroy();
  }
}

/** Credentials go where they belong, and not into messages, logs and images. */
function withoutCredentials(asked: URL): { url: URL; headers: Record<string, string> } {
  const url = new URL(asked);
  const { username, password } = url;
  url.username = '';
  url.password = '';
  if (username === '' && password === '') return { url, headers: {} };
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return { url, headers: { authorization: `Basic ${Buffer.from(pair).toString('base64')}` } };
}
