import type { Arguments, Option } from '../lib/arguments.ts';
import type { Terminal } from './terminal.ts';

/** What stands on the line beside options. */
export interface Operand {
  /** As the help shows it: `NAME`. */
  readonly name: string;
  readonly about: string;
  /** May be left out; only the last may. */
  readonly isOptional?: boolean;
  /** May stand several times; only the last may. */
  readonly isMany?: boolean;
}

/** One command of `skerry`. Help, manual pages and completion are made from the table below, so it is data. */
export interface Command {
  /** What the user types after `skerry`. */
  readonly words: readonly string[];
  /** One sentence without a full stop. */
  readonly about: string;
  readonly operands: readonly Operand[];
  readonly options: readonly Option[];
  /** Loads the code and runs it; resolves to the exit code. */
  run(call: Arguments, terminal: Terminal): Promise<number>;
}

const json: Option = { name: 'json', takes: 'switch', about: 'Print JSON' };
/** Of every command that talks to the daemon; `Daemon.of` reads it. */
const host: Option = {
  name: 'host',
  short: 'H',
  takes: 'value',
  argument: 'ADDRESS',
  about:
    "Where the daemon is: unix:///path or tcp://host:port; else SKERRY_HOST, else DOCKER_HOST, else the daemon's default",
};
const nodeFlags: Option = {
  name: 'node-flags',
  takes: 'switch',
  about: "Print only Node's memory flags for the board",
};
/** Of every command that reads images by itself. */
const sources: readonly Option[] = [
  {
    name: 'platform',
    takes: 'value',
    argument: 'PLATFORM',
    about: 'Of images for several platforms, the one for this: linux/arm64; default: this machine',
  },
  {
    name: 'insecure-registry',
    takes: 'values',
    argument: 'HOST',
    about: 'A registry without TLS, or without a certificate that can be verified; may be repeated',
  },
];
const imageForms = 'REF in a registry, oci:DIR[:TAG] or docker-archive:FILE';
const delta: Operand = { name: 'DELTA', about: 'The path of a file, or a name in a registry' };
const base: Option = {
  name: 'base',
  takes: 'value',
  argument: 'IMAGE',
  about: `The image that the delta builds on: a ${imageForms}`,
};

export const commands: readonly Command[] = [
  {
    words: ['board', 'list'],
    about: 'List the board profiles',
    operands: [],
    options: [json],
    run: async (call, terminal) => (await import('./board.ts')).listBoards(call, terminal),
  },
  {
    words: ['board', 'show'],
    about: 'Show a board profile and the reasons for its figures',
    operands: [{ name: 'BOARD', about: 'Name of a profile, or the path of one' }],
    options: [json, nodeFlags],
    run: async (call, terminal) => (await import('./board.ts')).showBoard(call, terminal),
  },
  {
    words: ['board', 'detect'],
    about: 'Say which profile this machine gets, and why',
    operands: [],
    options: [json, nodeFlags],
    run: async (call, terminal) => (await import('./board.ts')).detectThisBoard(call, terminal),
  },
  {
    words: ['delta', 'create'],
    about: 'Make the delta that leads from one image to another',
    operands: [
      {
        name: 'IMAGE',
        about: `BASE and TARGET, each a ${imageForms}; with --from-tags TARGET alone`,
        isMany: true,
      },
    ],
    options: [
      {
        name: 'output',
        short: 'o',
        takes: 'value',
        argument: 'FILE',
        about: 'Write the delta to this file; with --from-tags, each delta to a file in this directory',
      },
      {
        name: 'tag',
        short: 't',
        takes: 'value',
        argument: 'REF',
        about:
          'With --output: what the image is called where the file is loaded; default: as its source has it',
      },
      { name: 'push', takes: 'switch', about: "Push the delta to the target's repository" },
      {
        name: 'from-tags',
        takes: 'value',
        argument: 'N',
        about: "One delta from each of the N newest earlier images of the target's repository",
      },
      {
        name: 'min-saving',
        takes: 'value',
        argument: 'PERCENT',
        about:
          'A delta that saves less than this of what a pull would fetch is not kept, and if none is, the exit code is 3; default: 30',
      },
      {
        name: 'quality',
        takes: 'value',
        argument: '0-11',
        about: 'How hard to compress: 11, the default, takes a multiple of the time of 9 and saves a tenth',
      },
      {
        name: 'jobs',
        takes: 'value',
        argument: 'N',
        about: 'Compressors at once, of up to 50 MB each; default: one a processor, at most 4',
      },
      json,
      ...sources,
    ],
    run: async (call, terminal) => (await import('./delta-create.ts')).createDeltas(call, terminal),
  },
  {
    words: ['delta', 'inspect'],
    about: 'Show where the bytes of a delta go; with --base, by operation and by file',
    operands: [delta],
    options: [base, json, ...sources],
    run: async (call, terminal) => (await import('./delta-inspect.ts')).inspectDelta(call, terminal),
  },
  {
    words: ['delta', 'apply'],
    about: 'Make the image that a delta leads to, without a daemon',
    operands: [delta],
    options: [
      base,
      {
        name: 'output',
        short: 'o',
        takes: 'value',
        argument: 'WHERE',
        about: 'Write the image to oci:DIR, a directory that is not there yet, or to docker-archive:FILE',
      },
      {
        name: 'tag',
        short: 't',
        takes: 'value',
        argument: 'REF',
        about: 'Name the image in what is written',
      },
      json,
      ...sources,
    ],
    run: async (call, terminal) => (await import('./delta-apply.ts')).applyDelta(call, terminal),
  },
  {
    words: ['delta', 'verify'],
    about: 'Decode a delta and compare every digest in it; the exit code is 1 if one differs',
    operands: [delta],
    options: [base, json, ...sources],
    run: async (call, terminal) => (await import('./delta-apply.ts')).verifyDelta(call, terminal),
  },
  {
    words: ['images'],
    about: 'List the images, or what each tag can be rolled back to',
    operands: [],
    options: [
      { name: 'generations', takes: 'switch', about: 'List the tags that stood for other images before' },
      json,
      host,
    ],
    run: async (call, terminal) => (await import('./images.ts')).listImages(call, terminal),
  },
  {
    words: ['rollback'],
    about: 'Let a tag stand for the image that it stood for before; once more goes forward again',
    operands: [{ name: 'REF', about: 'The tag; without one, latest' }],
    options: [
      {
        name: 'to',
        takes: 'value',
        argument: 'ID',
        about: 'The one of several earlier images, by the beginning of its ID',
      },
      json,
      host,
    ],
    run: async (call, terminal) => (await import('./images.ts')).rollBack(call, terminal),
  },
  {
    words: ['verify'],
    about: 'Prove images whole, layer by layer; the exit code is 1 if damage is left',
    operands: [{ name: 'REF', about: 'Images, by name or ID', isOptional: true, isMany: true }],
    options: [
      { name: 'all', takes: 'switch', about: 'Verify every image' },
      { name: 'repair', takes: 'switch', about: 'Fetch damaged and missing layers again' },
      json,
      host,
    ],
    run: async (call, terminal) => (await import('./verify.ts')).verifyImages(call, terminal),
  },
  {
    words: ['version'],
    about: 'Show the version',
    operands: [],
    options: [json],
    run: async (call, terminal) => (await import('./version.ts')).showVersion(call, terminal),
  },
];
