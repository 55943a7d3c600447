import { fail } from '../errors.ts';

/** One option of a command line; help, manual pages and the parser are made from it. */
export interface Option {
  /** Without the two dashes. */
  readonly name: string;
  /** One letter, without the dash. */
  readonly short?: string;
  /** A switch takes no argument, but `--name=false` turns it off. `values` may be repeated. */
  readonly takes: 'switch' | 'value' | 'values';
  /** What stands for the argument in the help: `PATH`. */
  readonly argument?: string;
  /** One sentence without a full stop. */
  readonly about: string;
}

export type OptionValue = boolean | string | readonly string[];

export interface Arguments {
  /** By option name; only what was given. */
  readonly values: ReadonlyMap<string, OptionValue>;
  /** What is no option, in order. */
  readonly rest: readonly string[];
}

const yes = new Set(['1', 't', 'T', 'TRUE', 'true', 'True']);
const no = new Set(['0', 'f', 'F', 'FALSE', 'false', 'False']);

/**
 * Reads a command line as dockerd does: `--name value`, `--name=value`, `-n value`, `-nvalue`, `-n=value`, switches in a
 * row (`-Dv`), and `--` before what is no option. The last of several single values wins. Throws `CONFIG`.
 */
export function parseArguments(argv: readonly string[], options: readonly Option[]): Arguments {
  const values = new Map<string, OptionValue>();
  const rest: string[] = [];
  const queue = [...argv];
  for (let word = queue.shift(); word !== undefined; word = queue.shift()) {
    if (word === '--') return { values, rest: [...rest, ...queue] };
    if (word.startsWith('--')) readLong(word, options, queue, values);
    else if (word.startsWith('-') && word !== '-') readShort(word, options, queue, values);
    else rest.push(word);
  }
  return { values, rest };
}

function readLong(word: string, options: readonly Option[], queue: string[], into: Map<string, OptionValue>) {
  const equals = word.indexOf('=');
  const name = equals < 0 ? word.slice(2) : word.slice(2, equals);
  const option = options.find((each) => each.name === name);
  if (option === undefined) throw fail.config(`unknown flag: --${name}`);
  const attached = equals < 0 ? undefined : word.slice(equals + 1);
  take(option, attached, queue, into);
}

function readShort(
  word: string,
  options: readonly Option[],
  queue: string[],
  into: Map<string, OptionValue>,
) {
  let letters = word.slice(1);
  while (letters !== '') {
    const option = options.find((each) => each.short === letters[0]);
    if (option === undefined) throw fail.config(`unknown shorthand flag: '${letters[0]}' in ${word}`);
    const after = letters.slice(1);
    if (option.takes === 'switch' && !after.startsWith('=')) {
      into.set(option.name, true);
      letters = after;
      continue;
    }
    take(option, after === '' ? undefined : after.replace(/^=/, ''), queue, into);
    return;
  }
}

function take(
  option: Option,
  attached: string | undefined,
  queue: string[],
  into: Map<string, OptionValue>,
): void {
  if (option.takes === 'switch') {
    into.set(option.name, attached === undefined || parseSwitch(option.name, attached));
    return;
  }
  const value = attached ?? queue.shift();
  if (value === undefined) throw fail.config(`flag needs an argument: --${option.name}`);
  const before = into.get(option.name);
  into.set(option.name, option.takes === 'value' ? value : [...(Array.isArray(before) ? before : []), value]);
}

function parseSwitch(name: string, text: string): boolean {
  if (yes.has(text)) return true;
  if (no.has(text)) return false;
  throw fail.config(`invalid argument "${text}" for "--${name}" flag: must be true or false`);
}

/** The options as the help lists them: one aligned line each, longer descriptions wrapped at `width` columns. */
export function describeOptions(options: readonly Option[], { width = 100 } = {}): string {
  return describePairs(
    options.map((option) => [headOf(option), option.about]),
    { width },
  );
}

/** Terms and their descriptions in two columns, indented by two. */
export function describePairs(pairs: readonly (readonly [string, string])[], { width = 100 } = {}): string {
  const column = Math.max(...pairs.map(([head]) => head.length)) + 4;
  const lines = pairs.flatMap(([head, text]) =>
    wrap(text, Math.max(30, width - column)).map(
      (line, at) => `${(at === 0 ? `  ${head}` : '').padEnd(column)}${line}`,
    ),
  );
  return `${lines.join('\n')}\n`;
}

/** `-H, --host ADDRESS`. */
function headOf(option: Option): string {
  const short = option.short === undefined ? '    ' : `-${option.short}, `;
  return `${short}--${option.name}${option.takes === 'switch' ? '' : ` ${option.argument ?? 'VALUE'}`}`;
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width)
      lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}
