import type { ChildProcess } from 'node:child_process';
import { dirname, extname, join } from 'node:path';
import { Readable } from 'node:stream';
import { fail } from '../errors.ts';
import { nameText } from '../lib/byte-names.ts';
import type { FilesJob, LookJob, PathFacts, UnpackJob } from './files-job.ts';
import {
  type ChildProgram,
  type ChildReport,
  childNodeFlags,
  complaintOf,
  endOfChild,
  failureOfChild,
  runChild,
  startChild,
} from './layer-child.ts';
import { childOutput } from './packer.ts';
import { type Change, changeKinds } from './tree-changes.ts';

/** More of a child's words than that are none. */
const MAX_REPORT_BYTES = 64 << 10;

interface JobOptions {
  /** The container's mount namespace, for a view from inside. */
  namespace: number | undefined;
  signal: AbortSignal;
}

/** A path's archive, of which nothing is packed before it is read. */
export interface PackedPath {
  readonly facts: PathFacts;
  /** Fails where the child does; the child lives as long as this is read, and must be destroyed if it is not. */
  readonly tar: Readable;
}

/** Has children look into the files of containers: blocked on a dead network mount they hold nobody up but their client. */
export class FileJobs {
  readonly #program: ChildProgram;

  /** `childPath` is the program extract-layer, with container-files beside it. */
  constructor({ childPath }: { childPath: string }) {
    this.#program = {
      path: join(dirname(childPath), `container-files${extname(childPath)}`),
      nodeFlags: childNodeFlags,
    };
  }

  /** What is at a path. Throws 404. */
  async stat(job: Omit<LookJob, 'kind'>, { namespace, signal }: JobOptions): Promise<PathFacts> {
    const look: FilesJob = { ...job, kind: 'stat' };
    return runChild<PathFacts>(this.#program, look, {
      what: 'looking at a file',
      inherits: namespace,
      signal,
    });
  }

  /** Unpacks an archive, packed in whatever way, in a directory. Throws 400, 404 or 500 in dockerd's words. */
  async unpack(
    body: Readable,
    job: Omit<UnpackJob, 'kind'>,
    { namespace, signal }: JobOptions,
  ): Promise<void> {
    const unpack: FilesJob = { ...job, kind: 'unpack' };
    const what = 'unpacking an archive';
    await runChild<true>(this.#program, unpack, { what, input: body, inherits: namespace, signal });
  }

  /** What is different in a container's upper directory. The child lives as long as this is read. */
  async *changes(
    o: { upper: string; lower: readonly string[] },
    { signal }: { signal: AbortSignal },
  ): AsyncGenerator<Change, void, void> {
    const job: FilesJob = { ...o, kind: 'changes' };
    let rest = '';
    for await (const bytes of childOutput(this.#program, job, { what: 'comparing files', signal })) {
      const parts = (rest + bytes.toString('latin1')).split('\0');
      rest = parts.pop() ?? '';
      for (const part of parts) {
        const kind = Object.values(changeKinds).find((one) => String(one) === part[0]);
        if (kind !== undefined) yield { kind, path: nameText(part.slice(1)) };
      }
    }
  }

  /** Begins to pack what is at a path. Throws 404. */
  async pack(job: Omit<LookJob, 'kind'>, { namespace, signal }: JobOptions): Promise<PackedPath> {
    signal.throwIfAborted();
    const pack: FilesJob = { ...job, kind: 'pack' };
    const inherited = namespace === undefined ? [] : [namespace];
    const child = await startChild(this.#program, pack, ['ignore', 'pipe', 'pipe', 'pipe', ...inherited]);
    const packing = new Packing(child as PackingChild, signal);
    try {
      return { facts: await packing.facts(), tar: packing.tar() };
    } catch (cause) {
      await packing[Symbol.asyncDispose]();
      throw cause;
    }
  }
}

type PackingChild = ChildProcess & { readonly stdout: Readable; readonly stderr: Readable };

/** A child that packs. */
class Packing implements AsyncDisposable {
  readonly #child: PackingChild;
  readonly #signal: AbortSignal;
  readonly #ended: Promise<number | string>;
  readonly #complaint: Promise<string>;
  readonly #reports: AsyncGenerator<ChildReport<true>, void, void>;
  readonly #kill = () => this.#child.kill('SIGKILL');

  constructor(child: PackingChild, signal: AbortSignal) {
    this.#child = child;
    this.#signal = signal;
    this.#ended = endOfChild(child);
    this.#complaint = complaintOf(child.stderr);
    this.#complaint.catch(() => {});
    this.#reports = reportsOf(child.stdio[3] as Readable);
    signal.addEventListener('abort', this.#kill, { once: true });
    if (signal.aborted) this.#kill();
  }

  async facts(): Promise<PathFacts> {
    const first = await this.#next();
    if ('facts' in first) return first.facts as PathFacts;
    throw fail.host('packing a file ended before it began');
  }

  tar(): Readable {
    const tar = Readable.from(this.#bytes(), { objectMode: false });
    const abort = () => tar.destroy(this.#signal.reason);
    this.#signal.addEventListener('abort', abort, { once: true });
    tar.once('close', () => {
      this.#signal.removeEventListener('abort', abort);
      this.#kill(); // a generator that was never begun does not come to its end
    });
    return tar;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#signal.removeEventListener('abort', this.#kill);
    this.#kill();
    this.#child.stdout.destroy();
    await this.#ended;
  }

  async *#bytes(): AsyncGenerator<Buffer, void, void> {
    try {
      yield* this.#child.stdout as AsyncIterable<Buffer>;
      await this.#next();
    } finally {
      await this[Symbol.asyncDispose]();
    }
  }

  async #next(): Promise<ChildReport<true>> {
    const { value: line } = await this.#reports.next();
    this.#signal.throwIfAborted();
    if (line === undefined)
      throw fail.host(`packing a file ended with ${await this.#ended}: ${await this.#complaint}`);
    if ('failure' in line) throw failureOfChild(line.failure);
    return line;
  }
}

async function* reportsOf(lines: Readable): AsyncGenerator<ChildReport<true>, void, void> {
  let rest = '';
  for await (const bytes of lines) {
    const parts = `${rest}${bytes}`.split('\n');
    rest = parts.pop() ?? '';
    if (rest.length > MAX_REPORT_BYTES) throw fail.host('packing a file has too much to say');
    for (const part of parts) yield JSON.parse(part) as ChildReport<true>;
  }
}
