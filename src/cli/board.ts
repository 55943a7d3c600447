import { type BoardProfile, boards, detectBoard, findBoard, nodeFlags } from '../config/boards.ts';
import { readMachine } from '../config/machine.ts';
import { fail } from '../errors.ts';
import type { Arguments } from '../lib/arguments.ts';
import { table } from './table.ts';
import type { Terminal } from './terminal.ts';

/** One line per profile. */
export async function listBoards({ values }: Arguments, { stdout }: Terminal): Promise<number> {
  const profiles = boards();
  if (values.get('json') === true) {
    stdout.write(`${JSON.stringify(profiles, undefined, 2)}\n`);
    return 0;
  }
  const rows = profiles.map((board) => [
    board.name,
    architectureOf(board),
    board.ramClass,
    board.flash,
    String(board.tier),
    board.title,
  ]);
  stdout.write(table([['NAME', 'ARCH', 'MEMORY', 'FLASH', 'TIER', 'BOARD'], ...rows]));
  return 0;
}

/** One profile, by name or from a file. */
export async function showBoard({ values, rest }: Arguments, { stdout }: Terminal): Promise<number> {
  const [name = ''] = rest;
  const board = findBoard(name);
  if (board === undefined) throw fail.config(`there is no board profile "${name}": see skerry board list`);
  if (values.get('node-flags') === true) stdout.write(`${nodeFlags(board).join(' ')}\n`);
  else if (values.get('json') === true) stdout.write(`${JSON.stringify(board, undefined, 2)}\n`);
  else stdout.write(describe(board));
  return 0;
}

/** The profile that the daemon takes here unless it is told another. */
export async function detectThisBoard({ values }: Arguments, { stdout }: Terminal): Promise<number> {
  const { board, reason } = detectBoard(readMachine());
  if (values.get('node-flags') === true) stdout.write(`${nodeFlags(board).join(' ')}\n`);
  else if (values.get('json') === true) stdout.write(`${JSON.stringify({ name: board.name, reason })}\n`);
  else stdout.write(`${board.name} (${reason})\n`);
  return 0;
}

function describe(board: BoardProfile): string {
  const { store, pull, logs, heap, why } = board;
  const facts = table([
    ['Name', board.name],
    ['Board', board.title],
    ['Architecture', architectureOf(board)],
    ['Tier', String(board.tier)],
    ['Memory', `${board.ramClass} or more`],
    ['Flash', board.flash],
    ['Found by', [...board.detect.deviceTree, ...board.detect.dmi].join(', ') || 'architecture alone'],
  ]);
  const parts = [
    [
      'Store',
      `cache ${size(store.cacheBytes)}, write buffer ${size(store.writeBufferBytes)}, blocks ${size(store.blockBytes)}, files ${size(store.fileBytes)}`,
      why.store,
    ],
    [
      'Pull',
      `${pull.parallelDownloads} downloads, ${pull.parallelExtractions} extractions at once`,
      why.pull,
    ],
    ['Logs', `${logs.maxFiles} files of ${size(logs.maxBytes)} per container`, why.logs],
    ['Heap', `old space ${heap.oldSpaceMb} MiB, semi-space ${heap.semiSpaceMb} MiB`, why.heap],
  ];
  return `${facts}${parts.map(([part, figures, reason]) => `\n${part}: ${figures}\n  ${reason}\n`).join('')}`;
}

function architectureOf({ architecture, variant }: BoardProfile): string {
  return variant === undefined ? architecture : `${architecture}/${variant}`;
}

function size(bytes: number): string {
  return bytes % 1048576 === 0 ? `${bytes / 1048576} MiB` : `${bytes / 1024} KiB`;
}
