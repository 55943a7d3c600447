import { createHash } from 'node:crypto';

const head = '{"sum":"';
const middle = '","body":';
const sumDigits = 16;
const bodyStart = head.length + sumDigits + middle.length;

/**
 * A value as JSON text that proves itself whole: `{"sum":"<16 hex digits>","body":…}`. The sum covers the name too,
 * so a value that damage moved to another key or file is no longer valid there.
 *
 * Sixty-four bits of SHA-256: node:zlib has crc32 only from Node 22 on, and a table of our own is no faster for
 * records of a few kB (20 kB: 65 µs, SHA-256 24 µs), but another algorithm to maintain. It guards against flash that
 * forgets, not against an enemy.
 */
export function seal(name: string, value: NonNullable<unknown>): string {
  const body = JSON.stringify(value);
  return `${head}${sumOf(name, body)}${middle}${body}}`;
}

/** The value that was sealed under this name; undefined if the text is not exactly what {@link seal} made. */
export function unseal(name: string, text: string): NonNullable<unknown> | undefined {
  if (!text.startsWith(head) || !text.startsWith(middle, bodyStart - middle.length) || !text.endsWith('}'))
    return undefined;
  const body = text.slice(bodyStart, -1);
  if (text.slice(head.length, head.length + sumDigits) !== sumOf(name, body)) return undefined;
  return JSON.parse(body);
}

function sumOf(name: string, body: string): string {
  return createHash('sha256').update(name).update('\0').update(body).digest('hex').slice(0, sumDigits);
}
