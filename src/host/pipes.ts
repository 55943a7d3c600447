import { closeSync, constants as fsConstants, openSync, readSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { codeOf } from '../errors.ts';
import { libc, type PollHandle, succeed, systemError } from './libc.ts';
import type { PacketSocket } from './packets.ts';

const O_CLOEXEC = 0o2000000;
/** As much as a pipe holds, and room for the byte that names the stream. */
const LANDING_BYTES = 65536 + 1;
/** After this many reads other work of this thread has its turn. */
const READS_PER_TURN = 16;
/** The first byte of what is read, as conmon has it. */
const STDOUT_PACKET = 2;
const STDERR_PACKET = 3;

/** Where output lands before it is copied out; shared, because a read is done before anything else can run. */
let landing: Buffer | undefined;

/**
 * The pipes of a child process that has its streams from us, read and written as a conmon's socket is. Not Node's: its are
 * sockets, which a process cannot open again as /dev/stdout. The child holds its output for reading too, so that it is not
 * killed by a SIGPIPE when we are gone, and its end is reported all the same once nobody has it open to write.
 */
export class ProcessPipes implements PacketSocket {
  /** For `spawn`, until {@link releaseChildEnds}. */
  readonly childEnds: readonly ['ignore' | number, number, number];
  readonly #outputs: { fd: number; packet: number }[];
  #stdin: number | undefined;
  readonly #polls = new Map<number, PollHandle>();
  #onOutput: () => void = () => {};
  #onRoom: () => void = () => {};
  #isFinished = false;
  #writes: Promise<void> = Promise.resolve();

  constructor({ hasStdin }: { hasStdin: boolean }) {
    const [stdout, stderr] = [outputPipe(), outputPipe()];
    this.#outputs = [
      { fd: stdout.ours, packet: STDOUT_PACKET },
      { fd: stderr.ours, packet: STDERR_PACKET },
    ];
    const stdin = hasStdin ? inputPipe() : undefined;
    this.#stdin = stdin?.ours;
    this.childEnds = [stdin?.childs ?? 'ignore', stdout.childs, stderr.childs];
  }

  /** The child has been started, or could not be: from here on only it has its ends. */
  releaseChildEnds(): void {
    for (const end of this.childEnds) if (end !== 'ignore') closeSync(end);
  }

  async *packets(): AsyncIterable<Buffer> {
    for (let reads = 1; this.#outputs.length > 0; ) {
      let isIdle = true;
      const isFinished = this.#isFinished; // before the look: what comes later is not the child's
      for (const { fd, packet } of [...this.#outputs]) {
        const chunk = readOnce(fd, packet);
        if (chunk === 'wait') continue;
        isIdle = false;
        if (chunk === 'end') {
          this.#closeOutput(fd);
          continue;
        }
        yield chunk;
        if (reads++ % READS_PER_TURN === 0) await nextTurn();
      }
      if (isIdle && isFinished) return;
      if (isIdle) await this.#output();
    }
  }

  /** The child is gone: what is in the pipes is all there is, even if a process that it left behind holds them open. */
  finish(): void {
    this.#isFinished = true;
    this.#onOutput();
  }

  write(bytes: Uint8Array): Promise<void> {
    const written = this.#writes.then(() => this.#send(bytes));
    this.#writes = written.catch(() => {}); // the caller has the error; those behind it get their own
    return written;
  }

  async #send(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      if (this.#stdin === undefined) throw systemError(constants.errno.EPIPE, 'write');
      try {
        at += writeSync(this.#stdin, bytes, at);
      } catch (cause) {
        if (codeOf(cause) !== 'EAGAIN') throw cause;
        await this.#room(this.#stdin);
      }
    }
  }

  end(): void {
    this.#writes = this.#writes.then(() => this.#closeStdin());
  }

  close(): void {
    for (const { fd } of [...this.#outputs]) this.#closeOutput(fd);
    this.#closeStdin();
    this.#onOutput();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #closeOutput(fd: number): void {
    const at = this.#outputs.findIndex((output) => output.fd === fd);
    if (at < 0) return;
    this.#outputs.splice(at, 1);
    this.#letGo(fd);
  }

  #closeStdin(): void {
    if (this.#stdin === undefined) return;
    this.#letGo(this.#stdin);
    this.#stdin = undefined;
    this.#onRoom();
  }

  #letGo(fd: number): void {
    this.#polls.get(fd)?.close(); // leaves epoll at once, so the number may be used again
    this.#polls.delete(fd);
    closeSync(fd);
  }

  /** Resolves when there may be output, or an end of it. */
  async #output(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#onOutput = resolve;
      const wake = () => {
        for (const { fd } of this.#outputs) this.#polls.get(fd)?.stop();
        setImmediate(resolve);
      };
      for (const { fd } of this.#outputs) this.#watch(fd, { readable: true }, wake);
    });
  }

  /** Resolves when stdin may take more, or is closed. */
  async #room(fd: number): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#onRoom = resolve;
      this.#watch(fd, { writable: true }, () => {
        this.#polls.get(fd)?.stop();
        setImmediate(resolve);
      });
    });
  }

  #watch(fd: number, wish: { readable?: true; writable?: true }, onReady: () => void): void {
    const poll = this.#polls.get(fd);
    if (poll === undefined) this.#polls.set(fd, libc().poll(fd, wish, onReady));
    else poll.start(wish, onReady);
  }
}

function outputPipe(): { ours: number; childs: number } {
  const { reading, writing } = makePipe();
  try {
    return {
      ours: openAgain(reading, fsConstants.O_RDONLY | fsConstants.O_NONBLOCK),
      childs: openAgain(writing, fsConstants.O_RDWR),
    };
  } finally {
    closeSync(reading);
    closeSync(writing);
  }
}

function inputPipe(): { ours: number; childs: number } {
  const { reading, writing } = makePipe();
  try {
    return { ours: openAgain(writing, fsConstants.O_WRONLY | fsConstants.O_NONBLOCK), childs: reading };
  } finally {
    closeSync(writing);
  }
}

function makePipe(): { reading: number; writing: number } {
  const ends = new Int32Array(2);
  succeed('pipe2', undefined, (c) => c.pipe2(ends, O_CLOEXEC));
  const [reading = -1, writing = -1] = ends;
  return { reading, writing };
}

/** Another open file of the same pipe, with flags of its own: that one of us does not wait is not the child's concern. */
function openAgain(fd: number, flags: number): number {
  return openSync(`/proc/self/fd/${fd}`, flags | O_CLOEXEC);
}

/** What is there, without waiting. The pipe is read empty before its end is told. */
function readOnce(fd: number, packet: number): Buffer | 'end' | 'wait' {
  landing ??= Buffer.allocUnsafeSlow(LANDING_BYTES);
  try {
    const size = readSync(fd, landing, 1, LANDING_BYTES - 1, null);
    if (size === 0) return 'end';
    landing[0] = packet;
    return Buffer.from(landing.subarray(0, 1 + size));
  } catch (cause) {
    if (codeOf(cause) === 'EAGAIN') return 'wait';
    throw cause;
  }
}
