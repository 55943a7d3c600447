/**
 * JSON as Go's `encoding/json` reads it: clients of the Docker API see its error texts, and its decoder takes one
 * value and leaves what follows. The fast path is `JSON.parse`; the scanner runs only to find out what is wrong.
 */

/** `decoder` reads one value from a stream, `whole` insists on nothing else; they complain in different words. */
export type JsonReading = 'decoder' | 'whole';

/** Not JSON; the message is Go's. */
export class JsonSyntaxError extends Error {
  override name = 'JsonSyntaxError';
}

/** The value, and whether more than white space follows it. Throws {@link JsonSyntaxError}. */
export function parseJson(
  text: string,
  reading: JsonReading = 'decoder',
): { value: unknown; hasMore: boolean } {
  try {
    return { value: JSON.parse(text), hasMore: false };
  } catch {
    const end = new Scanner(text, reading).value();
    const rest = text.slice(end).replace(/^[ \t\r\n]+/, '');
    if (reading === 'whole' && rest !== '') throw looking(rest, 'after top-level value');
    // Go's Decoder.More takes a stray closing bracket for the end of something
    return { value: JSON.parse(text.slice(0, end)), hasMore: rest !== '' && !/^[\]}]/.test(rest) };
  }
}

/** JSON text with `<`, `>` and `&` escaped, as Go's encoder does unless told otherwise. */
export function escapedJson(value: unknown): string {
  return JSON.stringify(value).replace(/[<>&\u2028\u2029]/g, (character) => escapes[character] ?? character);
}

const escapes: Readonly<Record<string, string>> = {
  '<': '\\u003c',
  '>': '\\u003e',
  '&': '\\u0026',
  '\u2028': '\\u2028',
  '\u2029': '\\u2029',
};

function looking(at: string, where: string): JsonSyntaxError {
  return new JsonSyntaxError(
    `invalid character ${quote(String.fromCodePoint(at.codePointAt(0) ?? 0))} ${where}`,
  );
}

/** Go's quoteChar: single quotes around, escapes as in Go source. */
function quote(character: string): string {
  if (character === "'") return `'\\''`;
  if (character === '"') return `'"'`;
  return `'${JSON.stringify(character).slice(1, -1).replace('\\u00', '\\x')}'`;
}

/** Walks one value without building it. Depth is a counter, not recursion, so that no input overflows the stack. */
class Scanner {
  readonly #text: string;
  readonly #reading: JsonReading;
  #at = 0;

  constructor(text: string, reading: JsonReading) {
    this.#text = text;
    this.#reading = reading;
  }

  /** Position behind the first value. */
  value(): number {
    this.#space();
    if (this.#at === this.#text.length) throw this.#end('EOF');
    const open: ('{' | '[')[] = [];
    do {
      this.#open(open);
      this.#close(open);
    } while (open.length > 0);
    return this.#at;
  }

  /** Reads on to a scalar or an empty container; leaves `open` with what is still unclosed. */
  #open(open: ('{' | '[')[]): void {
    for (;;) {
      const next = this.#peek();
      if (next !== '{' && next !== '[') break;
      this.#at++;
      if (open.push(next) > MAX_DEPTH) throw new JsonSyntaxError('exceeded max depth');
      const first = this.#peek();
      if (first === (next === '{' ? '}' : ']')) return;
      if (next === '{') this.#key();
    }
    this.#scalar();
  }

  /** Closes what ends here; stops before the next value, or with nothing open. */
  #close(open: ('{' | '[')[]): void {
    for (let inside = open.at(-1); inside !== undefined; inside = open.at(-1)) {
      const where = inside === '{' ? 'after object key:value pair' : 'after array element';
      const next = this.#peek();
      if (next === ',') {
        this.#at++;
        if (inside === '{') this.#key();
        return;
      }
      if (next !== (inside === '{' ? '}' : ']')) throw this.#invalid(where);
      this.#at++;
      open.pop();
    }
  }

  #key(): void {
    const where = 'looking for beginning of object key string';
    if (this.#peek() !== '"') throw this.#invalid(where);
    this.#string();
    if (this.#peek() !== ':') throw this.#invalid('after object key');
    this.#at++;
  }

  #scalar(): void {
    const first = this.#peek();
    if (first === '"') this.#string();
    else if (first === '-' || (first >= '0' && first <= '9')) this.#number();
    else if (first === 't') this.#literal('true');
    else if (first === 'f') this.#literal('false');
    else if (first === 'n') this.#literal('null');
    else throw this.#invalid('looking for beginning of value');
  }

  #literal(literal: string): void {
    for (const expected of literal) {
      if (this.#here() !== expected)
        throw this.#invalid(`in literal ${literal} (expecting ${quote(expected)})`);
      this.#at++;
    }
  }

  #string(): void {
    for (this.#at++; ; this.#at++) {
      const character = this.#here();
      if (character < ' ') throw this.#invalid('in string literal');
      if (character === '"') break;
      if (character !== '\\') continue;
      this.#at++;
      const code = this.#here();
      if (code === 'u') {
        for (let digit = 0; digit < 4; digit++) {
          this.#at++;
          if (!/[0-9a-fA-F]/.test(this.#here())) throw this.#invalid('in \\u hexadecimal character escape');
        }
      } else if (!'"\\/bfnrt'.includes(code)) throw this.#invalid('in string escape code');
    }
    this.#at++;
  }

  #number(): void {
    if (this.#text[this.#at] === '-') this.#at++;
    if (this.#text[this.#at] === '0') this.#at++;
    else this.#digits('in numeric literal');
    if (this.#text[this.#at] === '.') {
      this.#at++;
      this.#digits('after decimal point in numeric literal');
    }
    if (/[eE]/.test(this.#text[this.#at] ?? '')) {
      this.#at++;
      if (/[+-]/.test(this.#text[this.#at] ?? '')) this.#at++;
      this.#digits('in exponent of numeric literal');
    }
  }

  #digits(where: string): void {
    if (!/[0-9]/.test(this.#here())) throw this.#invalid(where);
    while (/[0-9]/.test(this.#text[this.#at] ?? '')) this.#at++;
  }

  #space(): void {
    while (' \t\r\n'.includes(this.#text[this.#at] ?? 'x')) this.#at++;
  }

  /** The next character that is not space. */
  #peek(): string {
    this.#space();
    return this.#here();
  }

  #here(): string {
    const character = this.#text[this.#at];
    if (character === undefined) throw this.#end('unexpected EOF');
    return character;
  }

  #invalid(where: string): JsonSyntaxError {
    if (this.#at >= this.#text.length) return this.#end('unexpected EOF');
    return looking(this.#text.slice(this.#at, this.#at + 2), where);
  }

  #end(text: string): JsonSyntaxError {
    return new JsonSyntaxError(this.#reading === 'whole' ? 'unexpected end of JSON input' : text);
  }
}

/** Go's own bound on nesting. */
const MAX_DEPTH = 10_000;
