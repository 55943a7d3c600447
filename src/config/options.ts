import type * as z from 'zod/mini';
import { fail } from '../errors.ts';
import { describeOptions, type Option, type OptionValue } from '../lib/arguments.ts';
import { foreignKeys } from './dockerd.ts';
import { type KeyFacts, keyFacts } from './key-facts.ts';
import { daemonSchema, type KeyName, sections } from './schema.ts';

/** Where the configuration file is looked for. */
export const defaultConfigFile = '/etc/skerry/daemon.json';

/** What is a flag only. */
export const flagOptions: readonly Option[] = [
  {
    name: 'config-file',
    takes: 'value',
    argument: 'PATH',
    about: `Configuration file (default: ${defaultConfigFile}, which may be absent)`,
  },
  { name: 'validate', takes: 'switch', about: 'Check flags and configuration file, then exit' },
  { name: 'help', short: 'h', takes: 'switch', about: 'Print this help and exit' },
  { name: 'version', short: 'v', takes: 'switch', about: 'Print the version and exit' },
];

/** One key of the schema with all that help, reference page and parser need. */
export interface Key {
  readonly name: KeyName;
  readonly facts: KeyFacts;
  /** As a person reads it: `[]` and "off" are left out. */
  readonly defaultText: string;
  readonly isNumber: boolean;
}

/** Every key under its heading, in the schema's order. */
export function keysBySection(): { heading: string; keys: Key[] }[] {
  return Object.entries(sections).map(([heading, shape]) => ({
    heading,
    keys: Object.entries(shape).map(([name, schema]) => keyOf(name as KeyName, schema)),
  }));
}

function keyOf(name: KeyName, schema: z.core.$ZodType): Key {
  const facts = keyFacts.get(schema);
  if (facts === undefined) throw new Error(`the key ${name} is registered without its facts`);
  let inner: z.core.$ZodTypes = schema as z.core.$ZodTypes;
  let fallback: unknown;
  while (inner._zod.def.type === 'default' || inner._zod.def.type === 'optional') {
    if (inner._zod.def.type === 'default') fallback = inner._zod.def.defaultValue;
    inner = inner._zod.def.innerType as z.core.$ZodTypes;
  }
  return {
    name,
    facts,
    defaultText: facts.fallback ?? shownDefault(fallback),
    isNumber: inner._zod.def.type === 'number',
  };
}

function shownDefault(value: unknown): string {
  if (value === undefined || value === false) return '';
  if (Array.isArray(value)) return value.join(', ');
  return typeof value === 'object' ? '' : String(value);
}

/** Every flag that the daemon understands: ours, the ones that are no keys, and dockerd's that do nothing here. */
export function allOptions(): Option[] {
  const ours = keysBySection().flatMap(({ keys }) => keys.map(optionOf));
  const foreign = foreignKeys.map(({ key, flag, takes, why }) => ({ name: flag ?? key, takes, about: why }));
  return [...flagOptions, ...ours, ...foreign];
}

/** A key as an option: its default stands in the description. */
export function optionOf({ facts, defaultText }: Key): Option {
  const { flag: name, about } = facts;
  return { ...facts, name, about: defaultText === '' ? about : `${about} (default: ${defaultText})` };
}

/** The value of a key that its flag stands for, still to be checked by the schema. */
export function keyValueOf({ facts, isNumber }: Key, given: OptionValue): unknown {
  const { entryOf, fromTexts, flag, argument } = facts;
  if (fromTexts !== undefined && Array.isArray(given)) return fromTexts(given);
  if (entryOf !== undefined && Array.isArray(given)) {
    return Object.fromEntries(
      given.map((text: string) => {
        const equals = text.indexOf('=');
        if (equals < 1) throw fail.config(`--${flag}: "${text}" must have the form ${argument}`);
        return [text.slice(0, equals), entryOf(text.slice(equals + 1))];
      }),
    );
  }
  return isNumber && typeof given === 'string' && /^-?\d+$/.test(given) ? Number(given) : given;
}

/** What `skerryd --help` prints. */
export function helpText(): string {
  const groups = keysBySection().map(
    ({ heading, keys }) => `${heading}:\n${describeOptions(keys.map(optionOf))}`,
  );
  return [
    'Usage: skerryd [OPTIONS]\n',
    'A container engine for fleets of devices. It serves the Docker Engine API.\n',
    ...groups,
    `Other:\n${describeOptions(flagOptions)}`,
    `Each option of the first five groups may be set in the configuration file instead, in dockerd's spelling.\n`,
  ].join('\n');
}

/** The schema's own names; for asking whether a key is ours. */
export function isKeyName(name: string): name is KeyName {
  return Object.hasOwn(daemonSchema.shape, name);
}
