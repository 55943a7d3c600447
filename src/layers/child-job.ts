import { writeSync } from 'node:fs';
import { codeOf, Failure, messageOf } from '../errors.ts';
import { Discarded } from '../lib/discarded.ts';
import type { ChildReport } from './layer-child.ts';

/**
 * The child's side of {@link runChild}: the job comes as JSON in the program's argument, reports go out as lines of JSON
 * on descriptor 3. When the daemon dies, so does its child, at the next piece of work.
 */
const REPORTS = 3;
const PROGRESS_MS = 100;

/** Says a line to the daemon. */
export function report<T>(line: ChildReport<T>): void {
  writeSync(REPORTS, `${JSON.stringify(line)}\n`);
}

/** Tells how far the work is, at most ten times a second, and at its end. */
export class ProgressReport {
  #bytes = 0;
  #toldAt = Date.now();

  add(bytes: number): void {
    this.#bytes += bytes;
    if (Date.now() - this.#toldAt < PROGRESS_MS) return;
    this.#toldAt = Date.now();
    this.end();
  }

  end(): void {
    report({ bytes: this.#bytes });
  }
}

/** The input as it is, with its progress told. */
export async function* countedInput(input: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const progress = new ProgressReport();
  try {
    for await (const piece of input) {
      progress.add(piece.length);
      yield piece;
    }
  } finally {
    progress.end();
  }
}

/** Has the child stay small, and end with its daemon: to be told of each piece of bytes that was dealt with. */
export class Housekeeping {
  readonly #daemon = process.ppid;
  readonly #discarded = new Discarded({ everyBytes: 2 << 20 });

  after(bytes: number): void {
    if (process.ppid !== this.#daemon) end();
    this.#discarded.add(bytes);
  }
}

/** Does the job, reports what came of it, and ends the process. */
export async function runJob<Job>(work: (job: Job) => Promise<unknown>): Promise<void> {
  try {
    report({ result: await work(JSON.parse(process.argv[2] ?? '') as Job) });
  } catch (cause) {
    const code = cause instanceof Failure ? cause.code : 'BUG';
    const message = cause instanceof Error && code === 'BUG' ? (cause.stack ?? '') : messageOf(cause);
    // nobody reads on where the daemon has died
    const facts = cause instanceof Failure ? cause.facts : {};
    const status = cause instanceof Failure ? cause.status : 500;
    if (codeOf(cause) !== 'EPIPE') report({ failure: { code, status, message, facts } });
  }
  end();
}

/**
 * Not by `process.exit`, which waits for V8's helper threads: one exit in some hundred never came back from that
 * (Node 24.9, a thread waiting for a wake-up that was lost), and a child that hangs would hang its pull.
 */
function end(): void {
  process.kill(process.pid, 'SIGKILL');
}
