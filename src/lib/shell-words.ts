import { fail } from '../errors.ts';

/**
 * Words as a shell reads them, as far as a Dockerfile has them: quotes, escapes, `$NAME`, `${NAME}`, `${NAME:-word}` and
 * its kin. Text only: no commands, no arithmetic, no file names.
 */

/** Nobody nests substitutions deeper than this. */
const MAX_DEPTH = 50;

/** What a piece of text becomes: as one text, and cut into words at unquoted white space. */
export interface Expanded {
  readonly text: string;
  readonly words: readonly string[];
}

/** Expands `source` with variables (`NAME=value`; the last of a name counts). Throws 400 in dockerd's words. */
export function expandWords(source: string, variables: readonly string[], escapeToken = '\\'): Expanded {
  const values = new Map<string, string>();
  for (const variable of variables) {
    const [name = '', ...rest] = variable.split('=');
    values.set(name, rest.join('='));
  }
  try {
    return new Expansion(source, values, escapeToken).run();
  } catch (cause) {
    if (!(cause instanceof ShellError)) throw cause;
    throw fail.badRequest(`failed to process ${JSON.stringify(source)}: ${cause.message}`);
  }
}

class ShellError extends Error {}

/** Text that grows, and the words in it. */
class Words {
  text = '';
  readonly words: string[] = [];
  #word = '';

  /** Cut at white space. */
  add(text: string): void {
    this.text += text;
    for (const character of text) {
      if (!/\s/.test(character)) this.#word += character;
      else this.#end();
    }
  }

  /** Part of a word, whatever is in it. */
  addWhole(text: string): void {
    this.text += text;
    this.#word += text;
  }

  finish(): Expanded {
    this.#end();
    return this;
  }

  #end(): void {
    if (this.#word !== '') this.words.push(this.#word);
    this.#word = '';
  }
}

/** One pass over a text. */
class Expansion {
  readonly #characters: readonly string[];
  readonly #values: ReadonlyMap<string, string>;
  readonly #escape: string;
  #at = 0;
  #depth = 0;

  constructor(source: string, values: ReadonlyMap<string, string>, escapeToken: string) {
    this.#characters = [...source];
    this.#values = values;
    this.#escape = escapeToken;
  }

  run(): Expanded {
    return this.#until(undefined);
  }

  get #next(): string | undefined {
    return this.#characters[this.#at];
  }

  #take(): string | undefined {
    return this.#characters[this.#at++];
  }

  #until(stop: string | undefined): Expanded {
    const words = new Words();
    for (let next = this.#next; next !== undefined; next = this.#next) {
      if (next === "'") words.addWhole(this.#singleQuoted());
      else if (next === '"') words.addWhole(this.#doubleQuoted());
      else if (next === '$') words.add(this.#dollar());
      else {
        this.#at++;
        if (next === stop) return words.finish();
        if (next === this.#escape) words.addWhole(this.#take() ?? '');
        else words.add(next);
      }
    }
    if (stop !== undefined) throw new ShellError("syntax error: missing '}'");
    return words.finish();
  }

  /** Everything up to the closing quote is taken as it is. */
  #singleQuoted(): string {
    const end = this.#characters.indexOf("'", this.#at + 1);
    if (end < 0) throw new ShellError('unexpected end of statement while looking for matching single-quote');
    const text = this.#characters.slice(this.#at + 1, end).join('');
    this.#at = end + 1;
    return text;
  }

  /** Variables count in here, and the escape before the quote, a dollar and itself. */
  #doubleQuoted(): string {
    let text = '';
    this.#at++;
    for (let next = this.#next; next !== undefined; next = this.#next) {
      if (next === '$') {
        text += this.#dollar();
        continue;
      }
      this.#at++;
      if (next === '"') return text;
      const after = this.#next;
      if (next !== this.#escape) text += next;
      else if (after === '"' || after === '$' || after === this.#escape) text += this.#take() ?? '';
      else if (after !== undefined) text += next;
    }
    throw new ShellError('unexpected end of statement while looking for matching double-quote');
  }

  #dollar(): string {
    this.#at++;
    if (this.#next !== '{') {
      const name = this.#name();
      return name === '' ? '$' : (this.#values.get(name) ?? '');
    }
    this.#at++;
    if (this.#next === undefined) throw new ShellError("syntax error: missing '}'");
    if (this.#next === '{' || this.#next === '}' || this.#next === ':')
      throw new ShellError('syntax error: bad substitution');
    const name = this.#name();
    const value = this.#values.get(name);
    const mark = this.#take();
    if (mark === '}') return value ?? '';
    const modifier = mark === ':' ? `:${this.#take() ?? ''}` : mark;
    if (modifier === undefined) throw new ShellError("syntax error: missing '}'");
    return this.#modified(name, value, modifier);
  }

  /** With a colon, an empty value is as good as none. */
  #modified(name: string, value: string | undefined, modifier: string): string {
    if (++this.#depth > MAX_DEPTH) throw new ShellError('syntax error: bad substitution');
    const word = this.#until('}').text;
    this.#depth--;
    const isSet = value !== undefined && (value !== '' || !modifier.startsWith(':'));
    switch (modifier.replace(':', '')) {
      case '-':
        return isSet ? value : word;
      case '+':
        return isSet ? word : '';
      case '?': {
        if (isSet) return value;
        const what = value === undefined ? 'unset' : 'empty';
        throw new ShellError(`${name}: ${word || `is not allowed to be ${what}`}`);
      }
      default:
        throw new ShellError(`unsupported modifier (${modifier}) in substitution`);
    }
  }

  /** Letters, digits and underscores; digits alone if it begins with one; or one of the shell's own. */
  #name(): string {
    const first = this.#next ?? '';
    if (/[@*#?\-$!]/.test(first)) return this.#take() ?? '';
    const part = /\p{Nd}/u.test(first) ? /\p{Nd}/u : /[\p{L}\p{Nd}_]/u;
    let name = '';
    while (part.test(this.#next ?? '')) name += this.#take();
    return name;
  }
}
