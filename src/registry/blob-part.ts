import { fail } from '../errors.ts';
import type { BlobPart } from './blob-stream.ts';
import { Setback } from './setback.ts';
import { type Answer, discard } from './transport.ts';

/**
 * The part of a blob that an answer holds, from `offset` on or from before it (RFC 9110, 14.4 and 15.3.7). One whose
 * length cannot be right is not begun: it is another document, such as the page of a portal that wants a login.
 */
export function partOf(answer: Answer, size: number, offset: number): BlobPart {
  const { status, headers, body, url } = answer;
  const range =
    status === 206 ? /^bytes (\d+)-\d+\/(?:\d+|\*)$/.exec(headers['content-range'] ?? '') : undefined;
  const startsAt = range === undefined ? 0 : Number(range?.[1]);
  const length = headers['content-length'];
  const isRight = startsAt <= offset && (length === undefined || Number(length) === size - startsAt);
  if (isRight) return { body, startsAt };
  discard(body);
  const found = `${length ?? 'some'} bytes from ${range?.[1] ?? 0} on`;
  const message = `Get "${url.href}": the server sent ${found} of a blob of ${size} bytes`;
  throw new Setback(fail.registry(message), { isPassing: true });
}
