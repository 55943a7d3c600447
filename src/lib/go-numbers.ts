import { fail } from '../errors.ts';

const LARGEST = 2n ** 63n - 1n;
const SMALLEST = -(2n ** 63n);

/**
 * A whole number as Go's strconv reads it: sign and decimal digits within 64 bits. Throws with Go's text; the status
 * depends on who asks. Numbers beyond 2^53 lose their last digits.
 */
export function parseInteger(
  text: string,
  { call = 'Atoi', status = 500 }: { call?: 'Atoi' | 'ParseInt'; status?: number } = {},
): number {
  if (!/^[+-]?[0-9]+$/.test(text)) throw fail.invalidNumber(call, text, 'invalid syntax', status);
  const value = BigInt(text.replace('+', ''));
  if (value > LARGEST || value < SMALLEST) throw fail.invalidNumber(call, text, 'value out of range', status);
  return Number(value);
}

/** A truth value as Go's strconv.ParseBool reads it; undefined for what it refuses, with {@link notBoolean}. */
export function parseBool(text: string): boolean | undefined {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(text)) return true;
  return ['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(text) ? false : undefined;
}

/** What strconv.ParseBool says of a text that is no truth value. */
export function notBoolean(text: string): string {
  return `strconv.ParseBool: parsing ${JSON.stringify(text)}: invalid syntax`;
}

/** Nanoseconds since 1970 of `seconds[.fraction]`, as the API writes times; throws 500 with Go's text. */
export function parseUnixNanos(text: string): bigint {
  const [seconds = '', fraction] = splitAt(text, '.');
  const whole = BigInt(parseInteger(seconds, { call: 'ParseInt' })) * 1_000_000_000n;
  if (fraction === undefined) return whole;
  parseInteger(fraction, { call: 'ParseInt' });
  return whole + BigInt(fraction.slice(0, 9).padEnd(9, '0'));
}

function splitAt(text: string, separator: string): [string, string?] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}
