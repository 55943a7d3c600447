import { fail } from '../errors.ts';

/**
 * The grammar of Dockerfiles up to the arguments of each instruction: comments, directives, continued lines, flags, and
 * the forms that arguments take. What an instruction means is the reader's business, and so is `$NAME`. Errors are
 * dockerd's (moby/buildkit, frontend/dockerfile/parser).
 */

/** One instruction. */
export interface Instruction {
  /** In lower case; may be unknown. */
  readonly name: string;
  /** What comes before the arguments and begins with `--`. */
  readonly flags: readonly string[];
  /** Quotes and variables as they are written; `ENV` and `LABEL` have names and values in turn. */
  readonly args: readonly string[];
  /** The arguments were a JSON array, as is. */
  readonly isJson: boolean;
  /** The whole of it on one line. */
  readonly original: string;
}

export interface Dockerfile {
  readonly instructions: readonly Instruction[];
  /** `\`, unless a directive says otherwise. */
  readonly escapeToken: string;
}

type Arguments = Pick<Instruction, 'args' | 'isJson'>;

const MAX_LINE_BYTES = 65_535;
const BLANKS = /[\t\v\f\r ]+/;

/** Reads a Dockerfile, or lines that could be in one. Throws 400. */
export function parseDockerfile(source: string): Dockerfile {
  const lines = source.replace(/^\ufeff/, '').split(/\r?\n/);
  if (lines.some((line) => Buffer.byteLength(line) > MAX_LINE_BYTES))
    throw fail.badRequest(`dockerfile line greater than max allowed size of ${MAX_LINE_BYTES}`);
  const escapeToken = escapeOf(lines);
  const continued = new RegExp(`\\${escapeToken}[ \\t]*$`);
  const instructions: Instruction[] = [];
  for (let at = 0; at < lines.length; at++) {
    let line = (lines[at] ?? '').trimStart();
    if (isCommentOrBlank(line)) continue;
    const parts: string[] = [];
    while (continued.test(line) && at + 1 < lines.length) {
      parts.push(line.replace(continued, ''));
      line = '';
      while (at + 1 < lines.length && isCommentOrBlank(line)) line = lines[++at] ?? '';
    }
    parts.push(isCommentOrBlank(line) ? '' : line.replace(continued, ''));
    const whole = parts.join('');
    if (whole !== '') instructions.push(parseInstruction(whole, escapeToken));
  }
  if (instructions.length === 0) throw fail.badRequest('file with no instructions');
  return { instructions, escapeToken };
}

/** Directives are the comments before anything else that have their form. */
function escapeOf(lines: readonly string[]): string {
  const seen = new Map<string, string>();
  for (const line of lines) {
    const [, key = '', value = ''] =
      /^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$/.exec(line.trimStart()) ?? [];
    const name = key.toLowerCase();
    if (name !== 'escape' && name !== 'syntax') break;
    if (seen.has(name)) throw fail.badRequest(`only one ${name} parser directive can be used`);
    seen.set(name, value);
  }
  const escapeToken = seen.get('escape') ?? '\\';
  if (escapeToken !== '\\' && escapeToken !== '`')
    throw fail.badRequest(`invalid escape token '${escapeToken}' does not match \` or \\`);
  return escapeToken;
}

function parseInstruction(line: string, escapeToken: string): Instruction {
  const [word, more = ''] = firstWord(line.trim());
  const name = word.toLowerCase();
  const { flags, rest } = takeFlags(more);
  const { args, isJson } = parseArguments(name, rest.trim(), escapeToken);
  return { name, flags, args, isJson, original: line };
}

function parseArguments(name: string, rest: string, escapeToken: string): Arguments {
  switch (name) {
    case 'cmd':
    case 'entrypoint':
    case 'run':
    case 'shell':
      return jsonOr(rest, () => (rest === '' ? [] : [rest]));
    case 'add':
    case 'copy':
    case 'volume':
      return jsonOr(rest, () => rest.split(BLANKS).filter((word) => word !== ''));
    case 'expose':
    case 'from':
      return plain(rest === '' ? [] : rest.split(BLANKS));
    case 'env':
    case 'label':
      return plain(namesAndValues(name.toUpperCase(), rest, escapeToken));
    case 'arg':
      return plain(quotedWords(rest, escapeToken));
    case 'healthcheck': {
      const [type, command = ''] = firstWord(rest);
      const { args, isJson } = jsonOr(command, () => (command === '' ? [] : [command]));
      return { args: type === '' ? [] : [type, ...args], isJson };
    }
    case 'onbuild': {
      if (rest === '') return plain([]);
      const inner = parseInstruction(rest, escapeToken);
      return plain([inner.name, ...inner.args]);
    }
    // what is unknown is the reader's to refuse
    default:
      return plain(rest === '' ? [] : [rest]);
  }
}

function isCommentOrBlank(line: string): boolean {
  return /^\s*(?:#|$)/.test(line);
}

/** A text's first word, and what comes after the white space behind it. */
function firstWord(text: string): [word: string, rest?: string] {
  const end = text.search(BLANKS);
  return end < 0 ? [text] : [text.slice(0, end), text.slice(end).trimStart()];
}

function plain(args: readonly string[]): Arguments {
  return { args, isJson: false };
}

/** A JSON array of texts, or whatever else the words make; an array of other things is neither. */
function jsonOr(rest: string, otherwise: () => readonly string[]): Arguments {
  const list = rest.startsWith('[') ? jsonOf(rest) : undefined;
  if (!Array.isArray(list)) return plain(otherwise());
  const texts = list.filter((one): one is string => typeof one === 'string');
  if (texts.length < list.length)
    throw fail.badRequest('when using JSON array syntax, arrays must be comprised of strings only');
  return { args: texts, isJson: true };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** `NAME=value …`, or of old `NAME the rest of the line`. */
function namesAndValues(instruction: string, rest: string, escapeToken: string): string[] {
  const words = quotedWords(rest, escapeToken);
  const [first] = words;
  if (first === undefined) return [];
  if (!first.includes('=')) {
    const [name, value] = firstWord(rest);
    if (value === undefined) throw fail.badRequest(`${instruction} must have two arguments`);
    return [name, value];
  }
  return words.flatMap((word) => {
    const equals = word.indexOf('=');
    if (equals >= 0) return [word.slice(0, equals), word.slice(equals + 1)];
    throw fail.badRequest(
      `Syntax error - can't find = in ${JSON.stringify(word)}. Must be of the form: name=value`,
    );
  });
}

/** Words between white space that is not quoted; the quotes stay. */
function quotedWords(text: string, escapeToken: string): string[] {
  const words: string[] = [];
  let [word, quote] = ['', ''];
  let isWord = false;
  for (let at = 0; at < text.length; at++) {
    const character = text.charAt(at);
    if (quote === '' && /\s/.test(character)) {
      if (isWord) words.push(word);
      [word, isWord] = ['', false];
      continue;
    }
    if (character === escapeToken && quote !== "'") {
      // at the very end it escapes nothing
      if (++at < text.length) word += character + text.charAt(at);
    } else {
      if (character === quote) quote = '';
      else if (quote === '' && (character === '"' || character === "'")) quote = character;
      word += character;
    }
    isWord = word !== '';
  }
  return isWord ? [...words, word] : words;
}

/** `--name=value` words at the beginning, without their quotes; a lone `--` ends them. */
function takeFlags(line: string): { flags: string[]; rest: string } {
  const flags: string[] = [];
  let rest = line.trimStart();
  while (rest.startsWith('--')) {
    const word = /^(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\\.|[^\s"'\\])+/s.exec(rest)?.[0] ?? rest;
    rest = rest.slice(word.length).trimStart();
    if (word === '--') break;
    flags.push(word.replace(/\\(.)|["']/gs, '$1'));
  }
  return { flags, rest };
}
