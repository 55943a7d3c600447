import { fail } from '../errors.ts';
import { parseGoDuration } from '../lib/go-duration.ts';
import { type Filters, hasLabels } from './filters.ts';

/** Which objects a prune takes: what its filters say of labels and age, in dockerd's words where they say nonsense. */
export class PruneRule {
  readonly #filters: Filters;
  readonly #until: number | undefined;

  /** Throws 400 for a filter that is none of `label`, `label!`, `until` and `more`. */
  constructor(filters: Filters, more: readonly string[] = []) {
    const known = ['label', 'label!', 'until', ...more];
    for (const key of filters.keys())
      if (!known.includes(key)) throw fail.badRequest(`invalid filter '${key}'`);
    const [until, another] = filters.get('until') ?? [];
    if (another !== undefined) throw fail.host('more than one until filter specified');
    this.#filters = filters;
    this.#until = until === undefined ? undefined : pointInTime(until);
  }

  /** A filter that is true or false. Throws 400 for anything else. */
  flag(key: string, otherwise: boolean): boolean {
    const values = this.#filters.get(key) ?? [];
    const [value] = values;
    if (value === undefined) return otherwise;
    if (values.length === 1 && ['true', '1'].includes(value)) return true;
    if (values.length === 1 && ['false', '0'].includes(value)) return false;
    throw fail.badRequest(`invalid filter '${key}=[${values.join(' ')}]'`);
  }

  /** True for what was made before the time, in milliseconds since 1970, and has the labels, and not the others. */
  passes(createdMs: number, labels: Readonly<Record<string, string>> | null): boolean {
    const unwanted = this.#filters.get('label!') ?? [];
    return (
      (this.#until === undefined || createdMs <= this.#until) &&
      hasLabels(this.#filters, labels) &&
      (unwanted.length === 0 || !hasLabels(new Map([['label', unwanted]]), labels))
    );
  }
}

/** In milliseconds since 1970: an RFC 3339 text, Unix seconds, or how long ago as Go writes it. Throws dockerd's 500. */
export function pointInTime(text: string): number {
  const ago = parseGoDuration(text);
  if (ago !== undefined) return Date.now() - ago;
  const ms = /^\d+(?:\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(text);
  if (Number.isNaN(ms)) throw fail.host(`failed to parse value as time or duration: "${text}"`);
  return ms;
}
