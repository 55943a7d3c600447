/**
 * Docker's JSON, declared once and used both ways. A shape names every field on the wire, the model's name for it and
 * its Go type, because dockerd's clients see what Go's decoder does: keys match in any case, unknown ones are ignored,
 * null leaves the zero value, the last of several wins, and a wrong type is complained of in Go's words. A schema
 * library knows none of this.
 */

/** JSON of the wrong type; the message is Go's. */
export class WireError extends Error {
  override name = 'WireError';
}

/** Where a value stands, for the message. */
interface Place {
  readonly struct: string;
  readonly path: string;
}

/** How one kind of value is read from the wire and written to it. */
export interface Codec<T> {
  /** Go's name of the type. */
  readonly go: string;
  /** What Go has where the wire says nothing or null. */
  zero(): T;
  /** Throws {@link WireError}. */
  decode(json: unknown, place?: Place): T;
  encode(value: T): unknown;
}

/** What a request body needs. */
export type Decoder<T> = Pick<Codec<T>, 'zero' | 'decode'>;

/** A {@link Codec} of an object. */
export interface Struct<T> extends Codec<T> {
  encode(value: T): Record<string, unknown>;
  /** True if the JSON has at least one of its keys. */
  isIn(json: unknown): boolean;
}

/**
 * What becomes of a field that has nothing to say.
 * `omitempty`: left out of answers when zero or empty. `pointer`: absent from the model unless it was given, and printed
 * if it is there. `optional`: absent unless given, left out when empty.
 */
type Rule = 'omitempty' | 'pointer' | 'optional';

type Field<T, R extends Rule | undefined> = R extends undefined
  ? readonly [wire: string, codec: Codec<T>, rule?: 'omitempty']
  : readonly [wire: string, codec: Codec<T>, rule: R];

/** One field for each of the model's, in the wire's order. */
export type Fields<T> = {
  readonly [K in keyof T]-?: object extends Pick<T, K>
    ? Field<Exclude<T[K], undefined>, 'pointer' | 'optional'>
    : Field<T[K], undefined>;
};

function mismatch(json: unknown, go: string, place: Place | undefined): WireError {
  const where = place === undefined ? 'value' : `struct field ${place.struct}.${place.path}`;
  return new WireError(`json: cannot unmarshal ${kindOf(json, go)} into Go ${where} of type ${go}`);
}

function kindOf(json: unknown, go: string): string {
  if (Array.isArray(json)) return 'array';
  if (typeof json === 'boolean') return 'bool';
  if (typeof json === 'number' && /^u?int/.test(go)) return `number ${json}`;
  return typeof json;
}

function scalar<T extends string | boolean>(kind: 'string' | 'boolean', go: string, zero: T): Codec<T> {
  return {
    go,
    zero: () => zero,
    decode: (json, place) => {
      if (json === null) return zero;
      if (typeof json !== kind) throw mismatch(json, go, place);
      return json as T;
    },
    encode: (value) => value,
  };
}

/** A text; `named` where Go gave the type a name of its own. */
export const named = (go: string): Codec<string> => scalar('string', go, '');
export const text: Codec<string> = named('string');
export const trueOrFalse: Codec<boolean> = scalar<boolean>('boolean', 'bool', false);

function integer(go: string, least: number, most: number): Codec<number> {
  return {
    go,
    zero: () => 0,
    decode: (json, place) => {
      if (json === null) return 0;
      if (typeof json !== 'number' || !Number.isInteger(json) || json < least || json > most) {
        throw mismatch(json, go, place);
      }
      return json;
    },
    encode: (value) => value,
  };
}

export const int64: Codec<number> = integer('int64', -(2 ** 63), 2 ** 63);
export const int: Codec<number> = integer('int', -(2 ** 63), 2 ** 63);
export const uint64: Codec<number> = integer('uint64', 0, 2 ** 64);
export const uint16: Codec<number> = integer('uint16', 0, 2 ** 16 - 1);
export const uint32: Codec<number> = integer('uint32', 0, 2 ** 32 - 1);

/** A Go pointer: null where there is nothing. */
export function nullable<T>(codec: Codec<T>): Codec<T | null> {
  return {
    go: codec.go,
    zero: () => null,
    decode: (json, place) => (json === null ? null : codec.decode(json, place)),
    encode: (value) => (value === null ? null : codec.encode(value)),
  };
}

/** A Go slice; null is not the same as empty, and both are kept. */
export function list<T>(codec: Codec<T>, go = `[]${codec.go}`): Codec<T[] | null> {
  return {
    go,
    zero: () => null,
    decode: (json, place) => {
      if (json === null) return null;
      if (!Array.isArray(json)) throw mismatch(json, go, place);
      return json.map((element) => codec.decode(element, place));
    },
    encode: (value) => value?.map((element) => codec.encode(element)) ?? null,
  };
}

/** A Go map with text for keys. */
export function map<T>(codec: Codec<T>, go = `map[string]${codec.go}`): Codec<Record<string, T> | null> {
  return {
    go,
    zero: () => null,
    decode: (json, place) => {
      if (json === null) return null;
      if (typeof json !== 'object' || Array.isArray(json)) throw mismatch(json, go, place);
      // fromEntries defines its keys: a key of `__proto__` is a key like any other
      return Object.fromEntries(
        Object.entries(json).map(([key, value]) => [key, codec.decode(value, place)]),
      );
    },
    encode: (value) =>
      value === null
        ? null
        : Object.fromEntries(Object.entries(value).map(([key, one]) => [key, codec.encode(one)])),
  };
}

/** A set: keys of empty objects. */
export const set = (go: string): Codec<Record<string, object> | null> =>
  map<object>({ go: 'struct {}', zero: () => ({}), decode: decodeEmpty, encode: () => ({}) }, go);

function decodeEmpty(json: unknown, place?: Place): object {
  if (typeof json !== 'object' || Array.isArray(json)) throw mismatch(json, 'struct {}', place);
  return {};
}

/** A command: a list of words, or one text for a single word. */
export const words: Codec<string[] | null> = {
  ...list(text, 'strslice.StrSlice'),
  decode: (json) => {
    if (json === null) return null;
    if (typeof json === 'string') return [json];
    // Go decodes it apart from the rest, and so forgets the field's name
    if (!Array.isArray(json)) throw mismatch(json, 'string', undefined);
    return json.map((word: unknown) => {
      if (word !== null && typeof word !== 'string') throw mismatch(json, 'string', undefined);
      return word ?? '';
    });
  },
};

/** A Go array of two numbers. */
export const pair: Codec<[number, number]> = {
  go: '[2]uint',
  zero: () => [0, 0],
  decode: (json, place) => {
    if (json === null) return [0, 0];
    if (!Array.isArray(json)) throw mismatch(json, '[2]uint', place);
    const one = integer('uint', 0, 2 ** 64);
    return [one.decode(json[0] ?? null, place), one.decode(json[1] ?? null, place)];
  },
  encode: (value) => value,
};

/** An object with known fields. `name` is Go's, without the package; `go` with it. */
export function struct<T extends object>(name: string, go: string, fields: Fields<T>): Struct<T> {
  const table = (
    Object.entries(fields) as [keyof T & string, readonly [string, Codec<unknown>, Rule?]][]
  ).map(([key, [wire, codec, rule]]) => ({ key, wire, codec, rule }));
  const byWire = new Map(table.map((field) => [field.wire.toLowerCase(), field]));
  const isAbsent = (rule: Rule | undefined) => rule === 'pointer' || rule === 'optional';
  const zero = () => {
    const value: Record<string, unknown> = {};
    for (const { key, codec, rule } of table) if (!isAbsent(rule)) value[key] = codec.zero();
    return value;
  };
  return {
    go,
    zero: () => zero() as T,
    isIn: (json) => Object.keys(json ?? {}).some((key) => byWire.has(key.toLowerCase())),
    decode: (json, place) => {
      const value = zero();
      if (json === null) return value as T;
      if (typeof json !== 'object' || Array.isArray(json)) throw mismatch(json, go, place);
      for (const [wire, part] of Object.entries(json)) {
        const field = byWire.get(wire.toLowerCase());
        if (field === undefined) continue;
        const path = place === undefined ? field.wire : `${place.path}.${field.wire}`;
        if (part === null && isAbsent(field.rule)) delete value[field.key];
        else value[field.key] = field.codec.decode(part, { struct: name, path });
      }
      return value as T;
    },
    encode: (value) => {
      const encoded: Record<string, unknown> = {};
      for (const { key, wire, codec, rule } of table) {
        const part = value[key];
        if (part === undefined || (rule !== undefined && rule !== 'pointer' && isEmpty(part))) continue;
        encoded[wire] = codec.encode(part);
      }
      return encoded;
    },
  };
}

/** What Go's `omitempty` leaves out. */
function isEmpty(value: unknown): boolean {
  if (value === '' || value === 0 || value === false || value === null) return true;
  if (Array.isArray(value)) return value.length === 0;
  return typeof value === 'object' && Object.keys(value ?? {}).length === 0;
}
