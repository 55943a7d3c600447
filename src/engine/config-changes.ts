import { posix } from 'node:path';
import { fail } from '../errors.ts';
import { type Dockerfile, type Instruction, parseDockerfile } from '../lib/dockerfile.ts';
import { parseGoDuration } from '../lib/go-duration.ts';
import { parseInteger } from '../lib/go-numbers.ts';
import { expandWords } from '../lib/shell-words.ts';
import { parseSignal } from '../lib/signals.ts';
import type { ContainerConfig, Healthcheck } from './model.ts';

/** What an instruction does to a configuration. */
type Change = (config: ContainerConfig, instruction: Instruction, dockerfile: Dockerfile) => ContainerConfig;

const DEFAULT_SHELL = ['/bin/sh', '-c'];
const NANOS_PER_MS = 1e6;

/**
 * A configuration after Dockerfile instructions, such as `CMD ["sh"]` and `ENV a=b`: the changes of commit and import.
 * Those that need a build are refused. Throws 400 in dockerd's words.
 */
export function applyChanges(config: ContainerConfig, lines: readonly string[]): ContainerConfig {
  if (lines.length === 0) return config;
  const dockerfile = parseDockerfile(lines.join('\n'));
  for (const { name } of dockerfile.instructions)
    if (!Object.hasOwn(changes, name)) throw fail.badRequest(`${name} is not a valid change command`);
  let [changed, hasCommand] = [config, false];
  for (const instruction of dockerfile.instructions) {
    const change = changes[instruction.name];
    if (change !== undefined) changed = change(changed, instruction, dockerfile);
    if (instruction.name === 'cmd') hasCommand = true;
    // a command that was meant for another entrypoint makes no sense for this one
    if (instruction.name === 'entrypoint' && !hasCommand) changed = { ...changed, cmd: null };
  }
  return changed;
}

const changes: Readonly<Record<string, Change>> = {
  cmd: (config, instruction) => {
    refuseFlags(instruction);
    const { argsEscaped: _, ...rest } = config;
    const { args } = instruction;
    return { ...rest, cmd: instruction.isJson ? [...args] : [...shellOf(config), ...args] };
  },
  entrypoint: (config, instruction) => {
    refuseFlags(instruction);
    const { args, isJson } = instruction;
    if (args.length === 0) return { ...config, entrypoint: null };
    return { ...config, entrypoint: isJson ? [...args] : [...shellOf(config), ...args] };
  },
  env: (config, instruction, { escapeToken }) => {
    const env = [...(config.env ?? [])];
    const before = [...env]; // an instruction does not see its own variables
    for (const [name, value] of pairsOf(instruction, before, escapeToken)) {
      const at = env.findIndex((variable) => variable.split('=', 1)[0] === name);
      env.splice(at < 0 ? env.length : at, 1, `${name}=${value}`);
    }
    return { ...config, env };
  },
  label: (config, instruction, { escapeToken }) => {
    const labels = Object.fromEntries(pairsOf(instruction, config.env ?? [], escapeToken));
    return { ...config, labels: { ...config.labels, ...labels } };
  },
  expose: (config, instruction, { escapeToken }) => {
    needSome(instruction);
    refuseFlags(instruction);
    const words = instruction.args.flatMap((arg) => expandWords(arg, config.env ?? [], escapeToken).words);
    return { ...config, exposedPorts: { ...config.exposedPorts, ...keysOf(words.flatMap(portsOf)) } };
  },
  healthcheck: (config, instruction) => ({ ...config, healthcheck: healthcheckOf(instruction) }),
  onbuild: (config, instruction) => ({
    ...config,
    onBuild: [...(config.onBuild ?? []), triggerOf(instruction)],
  }),
  stopsignal: (config, instruction, { escapeToken }) => {
    const stopSignal = onlyWord(instruction, config, escapeToken);
    parseSignal(stopSignal);
    return { ...config, stopSignal };
  },
  user: (config, instruction, { escapeToken }) => ({
    ...config,
    user: onlyWord(instruction, config, escapeToken),
  }),
  volume: (config, instruction, { escapeToken }) => {
    needSome(instruction);
    refuseFlags(instruction);
    const paths = instruction.args.map((arg) => expandWords(arg.trim(), config.env ?? [], escapeToken).text);
    if (paths.includes('')) throw fail.badRequest('VOLUME specified can not be an empty string');
    return { ...config, volumes: { ...config.volumes, ...keysOf(paths) } };
  },
  workdir: (config, instruction, { escapeToken }) => {
    const path = onlyWord(instruction, config, escapeToken);
    if (path === '') throw fail.badRequest('cannot normalize nothing');
    const workingDir = posix.isAbsolute(path) ? path : posix.join('/', config.workingDir, path);
    return { ...config, workingDir };
  },
};

function shellOf({ shell }: ContainerConfig): readonly string[] {
  return shell === undefined || shell.length === 0 ? DEFAULT_SHELL : shell;
}

function keysOf(names: readonly string[]): Record<string, object> {
  return Object.fromEntries(names.map((name) => [name, {}]));
}

function pairsOf(
  instruction: Instruction,
  variables: readonly string[],
  escapeToken: string,
): [name: string, value: string][] {
  refuseFlags(instruction);
  needSome(instruction);
  const pairs: [string, string][] = [];
  for (let at = 0; at < instruction.args.length; at += 2) {
    const [name = '', value = ''] = instruction.args.slice(at, at + 2);
    if (name === '') throw fail.badRequest(`${instruction.name.toUpperCase()} names can not be blank`);
    pairs.push([
      expandWords(name, variables, escapeToken).text,
      expandWords(value, variables, escapeToken).text,
    ]);
  }
  return pairs;
}

function onlyWord(instruction: Instruction, { env }: ContainerConfig, escapeToken: string): string {
  const [arg, ...more] = instruction.args;
  if (arg === undefined || more.length > 0)
    throw fail.badRequest(`${instruction.name.toUpperCase()} requires exactly one argument`);
  refuseFlags(instruction);
  return expandWords(arg, env ?? [], escapeToken).text;
}

function needSome({ name, args }: Instruction): void {
  if (args.length === 0) throw fail.badRequest(`${name.toUpperCase()} requires at least one argument`);
}

function refuseFlags({ flags: [flag] }: Instruction): void {
  if (flag !== undefined) throw fail.badRequest(`Unknown flag: ${flag.slice(2).split('=', 1)[0]}`);
}

/** `80`, `80/udp`, `8000-8010/tcp`; of `[[IP:]HOST:]CONTAINER` the container's. */
function portsOf(word: string): string[] {
  const [ports = '', protocol = 'tcp'] = word.toLowerCase().split('/');
  if (!['tcp', 'udp', 'sctp'].includes(protocol)) throw fail.badRequest(`invalid proto: ${protocol}`);
  const container = ports.slice(ports.lastIndexOf(':') + 1);
  const [, first, last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(container) ?? [];
  const [from, to] = [Number(first), Number(last)];
  if (first === undefined || to > 65_535 || from > to)
    throw fail.badRequest(`invalid containerPort: ${container}`);
  return Array.from({ length: to - from + 1 }, (_, at) => `${from + at}/${protocol}`);
}

function triggerOf(instruction: Instruction): string {
  needSome(instruction);
  refuseFlags(instruction);
  const trigger = (instruction.args[0] ?? '').toUpperCase();
  if (trigger === 'ONBUILD') throw fail.badRequest("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
  if (trigger === 'MAINTAINER' || trigger === 'FROM')
    throw fail.badRequest(`${trigger} isn't allowed as an ONBUILD trigger`);
  return instruction.original.replace(/^\s*ONBUILD\s*/i, '');
}

function healthcheckOf(instruction: Instruction): Healthcheck {
  needSome(instruction);
  const [word = '', ...command] = instruction.args;
  const type = word.toUpperCase();
  if (type === 'NONE') {
    if (command.length > 0) throw fail.badRequest('HEALTHCHECK NONE takes no arguments');
    return { test: ['NONE'] };
  }
  const flags = flagsOf(instruction);
  if (type !== 'CMD') throw fail.badRequest(`Unknown type ${JSON.stringify(type)} in HEALTHCHECK (try CMD)`);
  if (command.length === 0) throw fail.badRequest('Missing command after HEALTHCHECK CMD');
  const retries = flags.get('retries');
  const count = retries === undefined ? 0 : parseInteger(retries, { status: 400 });
  if (count < 0) throw fail.badRequest(`--retries cannot be negative (${count})`);
  return {
    test: [instruction.isJson ? 'CMD' : 'CMD-SHELL', ...command],
    ...interval('interval', flags.get('interval')),
    ...interval('timeout', flags.get('timeout')),
    ...interval('startPeriod', flags.get('start-period')),
    ...interval('startInterval', flags.get('start-interval')),
    ...(count > 0 && { retries: count }),
  };
}

function flagsOf({ flags }: Instruction): Map<string, string> {
  const known = ['interval', 'timeout', 'start-period', 'start-interval', 'retries'];
  const values = new Map<string, string>();
  for (const flag of flags) {
    const [, name = '', value] = /^--([^=]*)(?:=(.*))?$/s.exec(flag) ?? [];
    if (!known.includes(name)) throw fail.badRequest(`Unknown flag: ${name}`);
    if (values.has(name)) throw fail.badRequest(`Duplicate flag specified: ${name}`);
    if (value === undefined) throw fail.badRequest(`Missing a value on flag: ${name}`);
    values.set(name, value);
  }
  return values;
}

function interval(
  key: 'interval' | 'timeout' | 'startPeriod' | 'startInterval',
  text = '',
): Partial<Healthcheck> {
  if (text === '') return {};
  const ms = parseGoDuration(text);
  if (ms === undefined) throw fail.badRequest(`time: invalid duration ${JSON.stringify(text)}`);
  const flag = key.replace(/[A-Z]/, (letter) => `-${letter.toLowerCase()}`);
  if (ms !== 0 && ms < 1) throw fail.badRequest(`Interval "${flag}" cannot be less than 1ms`);
  return ms === 0 ? {} : { [key]: Math.round(ms * NANOS_PER_MS) };
}
