import { createHash } from 'node:crypto';
import { fail } from '../errors.ts';

/** A content address, `sha256:` and 64 lower-case hex digits (OCI image-spec v1.1, descriptor.md, Digests). */
export type Digest = string & { readonly __brand: 'Digest' };

const pattern = /^sha256:[0-9a-f]{64}$/;

/** True if the text is a sha256 digest. No other algorithm is accepted. */
export function isDigest(text: string): text is Digest {
  return pattern.test(text);
}

/** Parses a digest that came from outside; throws `INVALID_DIGEST` (400). */
export function parseDigest(text: string): Digest {
  if (!isDigest(text)) throw fail.invalidDigest(text);
  return text;
}

/** The digest of bytes that are in memory. */
export function digestOf(bytes: Uint8Array | string): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest;
}

/** The 64 hex digits, without the algorithm. */
export function hexOf(digest: Digest): string {
  return digest.slice('sha256:'.length);
}

/** The 12 hex digits that people read. */
export function shortDigest(digest: Digest): string {
  return digest.slice('sha256:'.length, 'sha256:'.length + 12);
}
