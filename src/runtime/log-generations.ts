import { linkSync, readdirSync, type Stats, statSync, truncateSync, unlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { codeOf } from '../errors.ts';

/** Where a log is kept and how much of it; conmon writes it, also while no daemon runs. */
export interface LogPlan {
  /** The file that is being written. Earlier ones lie beside it: see {@link LogGenerations}. */
  readonly path: string;
  /** When it is full, conmon begins a new one; 0 for never. */
  readonly generationBytes: number;
  /** All generations together. */
  readonly limitBytes: number;
  /** Generations that are full are packed. */
  readonly compresses: boolean;
}

/** One file of a log. */
export interface Generation {
  /** Rising: the one with the highest is, or was last, written to. */
  readonly number: number;
  readonly path: string;
  readonly isPacked: boolean;
  readonly sizeBytes: number;
  readonly inode: number;
  /** Of the last line in it. */
  readonly changedMs: number;
}

/**
 * The files of one log. conmon, when its file is full, puts a new one in its place, which would be the old one's end.
 * So each file gets a second name, `log.N`, as long as it is still the present one: conmon takes away the first name
 * only. That needs nobody at the instant of the change, and can be made up for by whoever looks next.
 */
export class LogGenerations {
  readonly path: string;
  readonly #directory: string;

  constructor(path: string) {
    this.path = path;
    this.#directory = dirname(path);
  }

  /** Gives the present file its second name, if it has none. Answers its inode; undefined where there is no file. */
  adopt(): number | undefined {
    const present = statOf(this.path);
    if (present === undefined) return undefined;
    const newest = this.list().at(-1);
    if (newest?.inode === present.ino) return present.ino;
    try {
      linkSync(this.path, `${this.path}.${(newest?.number ?? 0) + 1}`);
    } catch (cause) {
      if (codeOf(cause) !== 'ENOENT') throw cause; // removed with its container
    }
    return present.ino;
  }

  /** Every generation, the oldest first. */
  list(): Generation[] {
    const found = new Map<number, Generation>();
    const prefix = `${basename(this.path)}.`;
    for (const name of namesIn(this.#directory)) {
      const rest = name.startsWith(prefix) ? name.slice(prefix.length) : '';
      const [, digits, packed] = /^(\d{1,12})(\.gz)?$/.exec(rest) ?? [];
      const path = join(this.#directory, name);
      const stats = digits === undefined ? undefined : statOf(path);
      if (stats === undefined) continue;
      const number = Number(digits);
      const isPacked = packed !== undefined;
      // a packed one is whole as soon as it has its name: it replaces what it was made of
      if (!isPacked && found.get(number)?.isPacked) continue;
      const { size: sizeBytes, ino: inode, mtimeMs: changedMs } = stats;
      found.set(number, { number, path, isPacked, sizeBytes, inode, changedMs });
    }
    return [...found.values()].sort((a, b) => a.number - b.number);
  }

  /** What comes after a generation; undefined while that one is the present file. */
  after({ number, inode }: Pick<Generation, 'number' | 'inode'>): Generation | undefined {
    if (statOf(this.path)?.ino === inode) return undefined;
    this.adopt();
    return this.list().find((generation) => generation.number > number);
  }

  /**
   * Before a new run: a file that is a quarter full is closed. Answers how much conmon, which counts only what it
   * writes itself, may write into the first file: none gets larger than a generation.
   */
  begin({ generationBytes }: Pick<LogPlan, 'generationBytes'>): number {
    this.adopt();
    const sizeBytes = statOf(this.path)?.size ?? 0;
    if (sizeBytes <= generationBytes / 4) return generationBytes - sizeBytes;
    unlinkSync(this.path);
    return generationBytes;
  }

  /**
   * Removes the oldest until the rest fits, whatever the present file grows to and the next, which conmon may begin
   * before anybody looks again: what it begins after that has no second name, and takes no more room. At
   * once, for while this waited the container would go on.
   */
  prune({ generationBytes, limitBytes }: LogPlan): void {
    const present = statOf(this.path)?.ino;
    const closed = this.list().filter(({ inode }) => inode !== present);
    // a packed one counts as what it was: else there were hundreds of them to be read
    const weigh = ({ isPacked, sizeBytes }: Generation) => (isPacked ? generationBytes : sizeBytes);
    let excess = closed.reduce(
      (sum, generation) => sum + weigh(generation),
      2 * generationBytes - limitBytes,
    );
    for (const generation of closed) {
      if (excess <= 0) return;
      excess -= weigh(generation);
      discard(generation.path);
    }
  }
}

/** Gives the space back at once, also where a reader has the file open. */
function discard(path: string): void {
  try {
    truncateSync(path);
    unlinkSync(path);
  } catch (cause) {
    if (codeOf(cause) !== 'ENOENT') throw cause;
  }
}

function statOf(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT' || codeOf(cause) === 'ENOTDIR') return [];
    throw cause;
  }
}
