/**
 * The part of YAML that programs write: block mappings and sequences, plain and quoted scalars, flow collections on one
 * line, comments. What else there is (anchors, tags, block scalars, text over several lines, many documents) throws: to
 * guess what was meant would be worse than to refuse it.
 */
export function parseYaml(text: string): unknown {
  const lines = linesOf(text);
  if (lines.length === 0) return null;
  const reader = new Reader(lines);
  const value = reader.block(lines[0]?.indent ?? 0);
  reader.end();
  return value;
}

/** The text is no YAML, or more than is read here. */
export class YamlError extends Error {
  constructor(line: number, why: string) {
    super(`yaml: line ${line}: ${why}`);
    this.name = 'YamlError';
  }
}

interface Line {
  readonly number: number;
  readonly indent: number;
  readonly text: string;
}

/** Deeper than any honest file: the stack must bear it. */
const MAX_DEPTH = 64;

function linesOf(text: string): Line[] {
  const lines: Line[] = [];
  for (const [at, raw] of text.split(/\r?\n/).entries()) {
    const number = at + 1;
    const content = withoutComment(raw).trimEnd();
    if (content.trim() === '') continue;
    const indent = content.length - content.trimStart().length;
    if (content.slice(0, indent).includes('\t')) throw new YamlError(number, 'a tab begins the line');
    if (content === '---' && lines.length === 0) continue;
    if (/^(---|\.\.\.|%)/.test(content)) throw new YamlError(number, 'more than one document');
    lines.push({ number, indent, text: content.trimStart() });
  }
  return lines;
}

/** A `#` after a blank begins a comment, unless it is within quotes. */
function withoutComment(line: string): string {
  let quote = '';
  for (let at = 0; at < line.length; at++) {
    const char = line.charAt(at);
    const isBefore = at === 0 || /[\s[{,:-]/.test(line.charAt(at - 1));
    if (quote === '"' && char === '\\') at++;
    else if (quote !== '') quote = char === quote ? '' : quote;
    else if ((char === '"' || char === "'") && isBefore) quote = char;
    else if (char === '#' && (at === 0 || /\s/.test(line.charAt(at - 1)))) return line.slice(0, at);
  }
  return line;
}

class Reader {
  readonly #lines: Line[];
  #at = 0;
  #depth = 0;

  constructor(lines: Line[]) {
    this.#lines = lines;
  }

  /** The node whose lines begin at this column. */
  block(indent: number): unknown {
    const line = this.#line();
    if (line === undefined || line.indent !== indent) throw this.#error('unexpected indentation');
    if (++this.#depth > MAX_DEPTH) throw this.#error('nested too deeply');
    let value: unknown;
    if (isItem(line.text)) value = this.#sequence(indent);
    else if (splitKey(line.text) !== undefined) value = this.#mapping(indent);
    else value = this.#scalar(line);
    this.#depth--;
    return value;
  }

  end(): void {
    if (this.#line() !== undefined) throw this.#error('unexpected indentation');
  }

  #sequence(indent: number): unknown[] {
    const items: unknown[] = [];
    for (let line = this.#line(); line?.indent === indent && isItem(line.text); line = this.#line()) {
      const inside = line.text.slice(1).trimStart();
      if (inside === '') {
        this.#at++;
        items.push(this.#below(indent, false));
        continue;
      }
      // what follows the dash is a node of its own, at its own column
      const column = indent + line.text.length - inside.length;
      this.#lines[this.#at] = { number: line.number, indent: column, text: inside };
      items.push(this.block(column));
    }
    return items;
  }

  #mapping(indent: number): Record<string, unknown> {
    const entries = new Map<string, unknown>();
    for (let line = this.#line(); line?.indent === indent; line = this.#line()) {
      const pair = isItem(line.text) ? undefined : splitKey(line.text);
      if (pair === undefined) break;
      const key = String(scalarOf(pair.key, line.number));
      if (entries.has(key)) throw this.#error(`key ${JSON.stringify(key)} already set`);
      this.#at++;
      entries.set(key, pair.rest === '' ? this.#below(indent, true) : lineValue(pair.rest, line.number));
    }
    return Object.fromEntries(entries);
  }

  /** What belongs to a key or a dash that nothing follows; the items of a key's list may stand under the key itself. */
  #below(indent: number, isKey: boolean): unknown {
    const line = this.#line();
    if (line === undefined || line.indent < indent) return null;
    if (line.indent === indent) return isKey && isItem(line.text) ? this.#sequence(indent) : null;
    return this.block(line.indent);
  }

  #scalar({ text, number }: Line): unknown {
    this.#at++;
    const next = this.#line();
    const value = lineValue(text, number);
    if (next !== undefined && next.indent > (this.#lines[this.#at - 1]?.indent ?? 0))
      throw this.#error('text over several lines is not read');
    return value;
  }

  #line(): Line | undefined {
    return this.#lines[this.#at];
  }

  #error(why: string): YamlError {
    const line = this.#line() ?? this.#lines.at(-1);
    return new YamlError(line?.number ?? 0, why);
  }
}

function isItem(text: string): boolean {
  return text === '-' || text.startsWith('- ');
}

/** The key of `key: value` or `key:`, as it is written; undefined if the line is none. */
function splitKey(text: string): { key: string; rest: string } | undefined {
  const parts =
    /^("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s"'[\]{}#&*!|>%@`,?-][^#]*?|-[^\s:#][^#]*?)\s*:(?:\s+(.*))?$/.exec(
      text,
    );
  const [, key, rest = ''] = parts ?? [];
  return key === undefined ? undefined : { key, rest };
}

/** A value on one line: a flow collection or a scalar. */
function lineValue(text: string, line: number): unknown {
  if (!/^[[{]/.test(text)) return scalarOf(text, line);
  const flow = new Flow(text, line);
  const value = flow.value(0);
  flow.end();
  return value;
}

function scalarOf(text: string, line: number): unknown {
  if (text.startsWith('"')) return doubleQuoted(text, line);
  if (text.startsWith("'")) {
    if (!/^'(?:[^']|'')*'$/.test(text)) throw new YamlError(line, 'a quote does not end');
    return text.slice(1, -1).replaceAll("''", "'");
  }
  if (/^[&*!|>%@`]/.test(text)) throw new YamlError(line, `${text.charAt(0)} is not read`);
  if (/:(\s|$)/.test(text)) throw new YamlError(line, 'a mapping is not allowed here');
  return plain(text);
}

function doubleQuoted(text: string, line: number): string {
  try {
    return JSON.parse(text); // what programs escape, they escape as JSON does
  } catch {
    throw new YamlError(line, 'a quoted text is not closed, or escapes what is not read');
  }
}

/** YAML 1.2, core schema. */
function plain(text: string): unknown {
  if (/^(~|null|Null|NULL)?$/.test(text)) return null;
  if (/^(true|True|TRUE)$/.test(text)) return true;
  if (/^(false|False|FALSE)$/.test(text)) return false;
  if (/^[-+]?\d+$/.test(text) && !/^[-+]?0\d/.test(text)) return Number(text);
  if (/^0o?[0-7]+$/.test(text)) return Number.parseInt(text.replace(/^0o?/, ''), 8);
  if (/^0x[\da-fA-F]+$/.test(text)) return Number.parseInt(text, 16);
  if (/^[-+]?(\.\d+|\d+\.\d*)(e[-+]?\d+)?$/i.test(text)) return Number(text);
  return text;
}

/** A collection in brackets: `[a, "b"]`, `{a: 1}`. */
class Flow {
  readonly #text: string;
  readonly #line: number;
  #at = 0;

  constructor(text: string, line: number) {
    this.#text = text;
    this.#line = line;
  }

  value(depth: number): unknown {
    if (depth > MAX_DEPTH) throw this.#error('nested too deeply');
    const [opening] = this.#take(/[[{]/y) ?? [];
    if (opening === '[') return this.#items(depth);
    if (opening === '{') return this.#entries(depth);
    return scalarOf(this.#word(), this.#line);
  }

  end(): void {
    if (this.#at < this.#text.length) throw this.#error('something follows a collection');
  }

  #items(depth: number): unknown[] {
    const items: unknown[] = [];
    while (!this.#take(/\]/y)) {
      items.push(this.value(depth + 1));
      if (!this.#take(/,/y) && !this.#sees(']')) throw this.#error('a list is not closed');
    }
    return items;
  }

  #entries(depth: number): Record<string, unknown> {
    const entries = new Map<string, unknown>();
    while (!this.#take(/\}/y)) {
      const key = String(scalarOf(this.#word(), this.#line));
      if (!this.#take(/:/y)) throw this.#error('a key has no value');
      entries.set(key, this.value(depth + 1));
      if (!this.#take(/,/y) && !this.#sees('}')) throw this.#error('a mapping is not closed');
    }
    return Object.fromEntries(entries);
  }

  #word(): string {
    const [word] =
      this.#take(/"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^[\]{},:"'\s](?:[^[\]{},:]|:(?=\S))*/y) ?? [];
    if (word === undefined) throw this.#error('a value is missing');
    return word.trim();
  }

  #sees(char: string): boolean {
    return this.#text.charAt(this.#at) === char;
  }

  /** What matches here, and the blanks after it. */
  #take(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (found === null) return undefined;
    this.#at = pattern.lastIndex;
    while (/\s/.test(this.#text.charAt(this.#at))) this.#at++;
    return found;
  }

  #error(why: string): YamlError {
    return new YamlError(this.#line, why);
  }
}
