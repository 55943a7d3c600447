import { Failure, fail } from '../errors.ts';
import { describeOptions, describePairs, type Option, parseArguments } from '../lib/arguments.ts';
import { type Command, commands } from './commands.ts';
import type { Terminal } from './terminal.ts';

const help: Option = { name: 'help', short: 'h', takes: 'switch', about: 'Print this help' };

/** Runs one command line; resolves to the exit code. What the user did wrong is said on stderr, with exit code 1. */
export async function runSkerry(argv: readonly string[], terminal: Terminal): Promise<number> {
  try {
    return await dispatch(argv, terminal);
  } catch (cause) {
    if (!(cause instanceof Failure)) throw cause;
    terminal.stderr.write(`skerry: ${cause.message}\n`);
    return 1;
  }
}

async function dispatch(argv: readonly string[], terminal: Terminal): Promise<number> {
  if (argv[0] === '--version' || argv[0] === '-v') return dispatch(['version'], terminal);
  const command = commands.find(({ words }) => words.every((word, at) => argv[at] === word));
  if (command === undefined) return answerWithHelp(argv, terminal);
  const call = parseArguments(argv.slice(command.words.length), [...command.options, help]);
  if (call.values.get('help') === true) {
    terminal.stdout.write(commandHelp(command));
    return 0;
  }
  if (!fits(call.rest.length, command.operands)) {
    const wanted = operandsOf(command).join(' ') || 'no arguments';
    throw fail.config(`"skerry ${command.words.join(' ')}" takes ${wanted}`);
  }
  return command.run(call, terminal);
}

function fits(count: number, operands: Command['operands']): boolean {
  const least = operands.filter(({ isOptional }) => isOptional !== true).length;
  return count >= least && (count <= operands.length || operands.at(-1)?.isMany === true);
}

/** As usage lines show them: `REF`, `[REF]`, `REF...`. */
function operandsOf({ operands }: Command): string[] {
  return operands.map(({ name, isOptional, isMany }) => {
    const text = `${name}${isMany === true ? '...' : ''}`;
    return isOptional === true ? `[${text}]` : text;
  });
}

/** For `skerry`, `skerry --help` and `skerry board`: the commands that begin so. */
function answerWithHelp(argv: readonly string[], terminal: Terminal): number {
  const words = argv.filter((word) => !['help', '--help', '-h'].includes(word));
  const below = commands.filter((command) => words.every((word, at) => command.words[at] === word));
  if (below.length === 0) {
    throw fail.config(`unknown command: ${words.join(' ')}. See 'skerry --help'.`);
  }
  terminal.stdout.write(groupHelp(words, below));
  return 0;
}

function groupHelp(words: readonly string[], below: readonly Command[]): string {
  const intro =
    words.length > 0 ? '' : '\nWhat the docker command line cannot do; for everything else, use docker.\n';
  const pairs = below.map(({ words: each, about }) => [each.join(' '), about] as const);
  return `Usage: ${['skerry', ...words].join(' ')} COMMAND\n${intro}\nCommands:\n${describePairs(pairs)}\nSee 'skerry COMMAND --help' for one command.\n`;
}

/** What `skerry COMMAND --help` prints. */
function commandHelp(command: Command): string {
  const { words, about, operands, options } = command;
  const usage = ['skerry', ...words, '[OPTIONS]', ...operandsOf(command)].join(' ');
  const arguments_ = describePairs(operands.map((operand) => [operand.name, operand.about]));
  return [
    `Usage: ${usage}\n`,
    `${about}.\n`,
    ...(operands.length === 0 ? [] : [`Arguments:\n${arguments_}`]),
    `Options:\n${describeOptions([...options, help])}`,
  ].join('\n');
}
