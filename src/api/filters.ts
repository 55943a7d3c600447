import { fail } from '../errors.ts';
import { JsonSyntaxError, parseJson } from '../lib/json.ts';
import type { ApiContext } from './context.ts';
import { list, map, text, trueOrFalse, WireError } from './wire.ts';

/** What a list or a stream is narrowed to: keys are ANDed, the values of one key ORed. */
export type Filters = ReadonlyMap<string, readonly string[]>;

const sets = map(map(trueOrFalse));
const lists = map(list(text));

/**
 * The `filters` parameter: `{"key":{"value":true}}`, or `{"key":["value"]}` as clients of old write it. Throws 400, or
 * `oldStatus` as daemons of old did.
 */
export function filtersOf(
  { state: { query, axes } }: ApiContext,
  /** `prefix`: what the list of volumes says before any complaint. `oldStatus`: what daemons of old took it for. */
  { prefix = '', oldStatus = 500 }: { prefix?: string; oldStatus?: number } = {},
): Map<string, readonly string[]> {
  const json = query.text('filters');
  if (json === '') return new Map();
  try {
    const { value } = parseJson(json, 'whole');
    return new Map(
      readSets(value) ?? Object.entries(lists.decode(value) ?? {}).map(([key, all]) => [key, all ?? []]),
    );
  } catch (cause) {
    if (!(cause instanceof WireError || cause instanceof JsonSyntaxError)) throw cause;
    if (!axes.has('G075')) throw fail.invalidFilters(`${prefix}${cause.message}`, oldStatus);
    const told = axes.has('G075b') ? 'invalid filter' : `invalid filter: ${cause.message}`;
    throw fail.invalidFilters(`${prefix}${told}`);
  }
}

/** Undefined for the form of old. A value that is said to be false counts: dockerd looks at the keys alone. */
function readSets(value: unknown): [string, string[]][] | undefined {
  const parts = typeof value === 'object' && !Array.isArray(value) ? Object.values(value ?? {}) : [];
  if (parts.length > 0 && parts.every(isListOfTexts)) return undefined;
  return Object.entries(sets.decode(value) ?? {}).map(([key, values]) => [key, Object.keys(values ?? {})]);
}

function isListOfTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every((one) => typeof one === 'string');
}
