import { fail } from '../errors.ts';
import { parseInteger } from '../lib/go-numbers.ts';
import { parseQuery, QueryError } from '../lib/url.ts';

/** A request's parameters: the query, and before it a form body's where the request has one. */
export class Query {
  readonly #values: ReadonlyMap<string, readonly string[]>;

  /** Throws 400 with Go's text for what cannot be read. */
  constructor(query: string, form = '') {
    try {
      this.#values = parseQuery(query, parseQuery(form));
    } catch (cause) {
      throw cause instanceof QueryError ? fail.badRequest(cause.message) : cause;
    }
  }

  /** The first value; empty if there is none. */
  text(key: string): string {
    return this.#values.get(key)?.[0] ?? '';
  }

  /** All values, in their order. */
  texts(key: string): readonly string[] {
    return this.#values.get(key) ?? [];
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  /** False when empty, `0`, `no`, `false`, `none` in any case; everything else is true. */
  flag(key: string): boolean {
    return !['', '0', 'no', 'false', 'none'].includes(this.text(key).trim().toLowerCase());
  }

  /** A whole number, undefined if empty. Throws Go's text with the status that the endpoint gives it. */
  integer(key: string, { status = 500 }: { status?: number } = {}): number | undefined {
    const text = this.text(key);
    return text === '' ? undefined : parseInteger(text, { status });
  }

  /** A whole number that must be there. Throws 400. */
  requiredInteger(key: string): number {
    return parseInteger(this.text(key), { status: 400 });
  }
}
