import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf } from '../errors.ts';
import { connectPackets, type PacketSocket } from '../host/packets.ts';
import { withResolvers } from '../lib/promises.ts';

/** Takes what a process writes. */
export interface OutputSink {
  /**
   * A promise says "not so fast": until it resolves, output is kept for this sink up to its bound, and beyond it the
   * process waits, as at a pipe. Without a promise the sink has taken it.
   */
  onOutput(stream: 1 | 2, data: Buffer): Promise<void> | undefined;
  /** The process has ended, and everything it wrote was given. */
  onEnd(): void;
  /** It took nothing for seconds while the process waited for it, and gets nothing more. */
  onDropped?(): void;
}

/** conmon's first byte of a packet: which stream the rest is from. */
const STDERR_PACKET = 3;

/**
 * How long output waits for a first subscriber. One that never comes must not block the process for good: its pipe
 * fills up while nobody reads.
 */
const PATIENCE_MS = 5000;

/**
 * How long a subscriber may take nothing at all once its buffer is full. Counted from what it took last: for one that had
 * stopped before, the process does not wait. Short, for the process stands still; a client that writes to a busy flash, or
 * into a pipe whose reader pauses, may need as long.
 */
const STALL_MS = 5000;

/** How long a connection outlives its last subscriber: another may be on its way. */
const IDLE_MS = 1000;

/** All that can be left is what the kernel holds for us. */
const DRAIN_MS = 2000;

/**
 * The daemon's one connection to a process's streams, shared by any number of clients. It remembers nothing: who
 * subscribes late has missed what came before. Reading begins with the first subscriber, so that whoever attaches
 * before the start gets the first byte. A slow client slows the process down, so that it misses nothing; one that does not
 * read at all is dropped, so that nobody can hold the process up.
 */
export class Attachment {
  /** Resolves when the process's output is over. What a slow subscriber has not taken yet, it still gets. */
  readonly ended: Promise<void>;
  readonly #socket: PacketSocket | undefined;
  readonly #hasStdin: boolean;
  readonly #keepsStdinOpen: boolean;
  readonly #mustBeRead: boolean;
  readonly #subscribers = new Set<Subscriber>();
  readonly #end: () => void;
  #isReading = false;
  #isEnded = false;
  #isStdinEnded = false;
  readonly #patience: NodeJS.Timeout | undefined;
  #idle: NodeJS.Timeout | undefined;

  /**
   * Without a socket it is that of a process that says and hears nothing; {@link close} ends it. One that must be read has no
   * monitor behind it: the process would wait if we let go of its output.
   */
  constructor(
    socket: PacketSocket | undefined,
    o: { hasStdin: boolean; keepsStdinOpen: boolean; mustBeRead?: boolean },
  ) {
    this.#socket = socket;
    this.#hasStdin = o.hasStdin;
    this.#keepsStdinOpen = o.keepsStdinOpen;
    this.#mustBeRead = o.mustBeRead ?? false;
    const { promise, resolve } = withResolvers<void>();
    this.ended = promise;
    this.#end = resolve;
    if (socket !== undefined) this.#patience = setTimeout(() => this.#read(), PATIENCE_MS).unref();
  }

  /** Connects to conmon's attach socket. One that is gone, with its process, gives an attachment that has ended. */
  static async connect(path: string, o: { hasStdin: boolean; keepsStdinOpen: boolean }): Promise<Attachment> {
    try {
      return new Attachment(await connectPackets(path), o);
    } catch (cause) {
      if (codeOf(cause) !== 'ENOENT' && codeOf(cause) !== 'ECONNREFUSED') throw cause;
      const ended = new Attachment(undefined, o);
      ended.close();
      return ended;
    }
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** From now on the sink gets all output. Returns how to leave. */
  subscribe(sink: OutputSink, { maxBufferedBytes }: { maxBufferedBytes: number }): () => void {
    const subscriber = new Subscriber(sink, maxBufferedBytes, () => this.#leave(subscriber));
    if (this.#isEnded) {
      queueMicrotask(() => subscriber.end());
      return () => subscriber.leave();
    }
    clearTimeout(this.#idle);
    this.#subscribers.add(subscriber);
    this.#read();
    return () => {
      subscriber.leave();
      this.#leave(subscriber);
    };
  }

  /** Bytes for stdin; resolves when the monitor has room for more. Once the process has closed it, they go nowhere. */
  async write(data: Buffer): Promise<void> {
    if (this.#socket === undefined || !this.#hasStdin || this.#isStdinEnded || this.#isEnded) return;
    try {
      await this.#socket.write(data);
    } catch (cause) {
      if (codeOf(cause) !== 'EPIPE' && codeOf(cause) !== 'ECONNRESET') throw cause;
    }
  }

  /** A client's stdin has ended: so does the process's, after what was written, unless it is to stay open. */
  endStdin(): void {
    if (this.#keepsStdinOpen || this.#isStdinEnded) return;
    this.#isStdinEnded = true;
    this.#socket?.end();
    this.#rest();
  }

  /** Lets go of the connection at once; for subscribers that is the end. Safe twice. */
  close(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    clearTimeout(this.#patience);
    clearTimeout(this.#idle);
    this.#socket?.close();
    for (const subscriber of this.#subscribers) subscriber.end();
    this.#subscribers.clear();
    this.#end();
  }

  /** Gives what a process that is gone has left in the connection, then lets go of it. */
  async drain(): Promise<void> {
    this.#read();
    for (const subscriber of this.#subscribers) subscriber.unbind();
    await Promise.race([this.ended, sleep(DRAIN_MS, undefined, { ref: false })]);
    this.close();
  }

  #read(): void {
    if (this.#isReading || this.#isEnded || this.#socket === undefined) return;
    this.#isReading = true;
    clearTimeout(this.#patience);
    // a connection that breaks says no more than one that ends
    this.#pump(this.#socket).then(
      () => this.close(),
      () => this.close(),
    );
  }

  async #pump(socket: PacketSocket): Promise<void> {
    for await (const packet of socket.packets()) {
      const stream = packet[0] === STDERR_PACKET ? 2 : 1;
      const data = packet.subarray(1);
      for (const subscriber of this.#subscribers) subscriber.give(stream, data);
      const full = [...this.#subscribers].filter(({ isFull }) => isFull);
      if (full.length > 0) await Promise.all(full.map((subscriber) => subscriber.room())); // one patience for all
    }
  }

  #leave(subscriber: Subscriber): void {
    if (this.#subscribers.delete(subscriber)) this.#rest();
  }

  /**
   * Where nobody listens the connection is only work: all output would pass through the daemon. It must stay while
   * its end would be the end of the process's stdin.
   */
  #rest(): void {
    const isStdinOpen = this.#hasStdin && !this.#keepsStdinOpen && !this.#isStdinEnded;
    const isNeeded = this.#mustBeRead || isStdinOpen;
    if (this.#subscribers.size > 0 || this.#isEnded || isNeeded) return;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.close(), IDLE_MS).unref();
  }
}

/** One client's place at a process's output, with what it has not taken yet. */
class Subscriber {
  readonly #sink: OutputSink;
  #maxBytes: number;
  readonly #onDropped: () => void;
  readonly #queue: [1 | 2, Buffer][] = [];
  #queuedBytes = 0;
  #onTaken: () => void = () => {};
  #isBusy = false;
  /** When it was last known to have nothing of ours left, or took something. */
  #takenMs = performance.now();
  #isEnding = false;
  #isGone = false;

  constructor(sink: OutputSink, maxBytes: number, onDropped: () => void) {
    this.#sink = sink;
    this.#maxBytes = maxBytes;
    this.#onDropped = onDropped;
  }

  give(stream: 1 | 2, data: Buffer): void {
    if (this.#isGone) return;
    if (!this.#isBusy) this.#hand(stream, data);
    else {
      this.#queue.push([stream, data]);
      this.#queuedBytes += data.length;
    }
  }

  get isFull(): boolean {
    return this.#queuedBytes > this.#maxBytes && !this.#isGone;
  }

  /** Resolves when there is room again, or when it was dropped because it took nothing. */
  async room(): Promise<void> {
    while (this.isFull) {
      const { promise, resolve } = withResolvers<boolean>();
      this.#onTaken = () => resolve(true);
      const leftMs = this.#takenMs + STALL_MS - performance.now();
      const timer = setTimeout(() => resolve(false), Math.max(0, leftMs));
      if (!(await promise)) this.#drop();
      clearTimeout(timer);
    }
  }

  /** The process is gone, and what is left is little: takes all of it at once. */
  unbind(): void {
    this.#maxBytes = Number.POSITIVE_INFINITY;
    this.#onTaken();
  }

  /** No more will come: what is queued is still given. */
  end(): void {
    this.#isEnding = true;
    if (!this.#isBusy) this.#close();
  }

  leave(): void {
    this.#isGone = true;
    this.#queue.length = 0;
    this.#onTaken();
  }

  #hand(stream: 1 | 2, data: Buffer): void {
    let taken: Promise<void> | undefined;
    try {
      taken = this.#sink.onOutput(stream, data);
    } catch {
      this.#drop(); // its trouble is not the others'
    }
    if (taken === undefined) return;
    this.#takenMs = performance.now();
    this.#isBusy = true;
    taken.then(
      () => this.#next(),
      () => this.#drop(),
    );
  }

  #next(): void {
    this.#isBusy = false;
    this.#takenMs = performance.now();
    while (!this.#isBusy && !this.#isGone) {
      const [stream, data] = this.#queue.shift() ?? [];
      if (stream === undefined || data === undefined) break;
      this.#queuedBytes -= data.length;
      this.#hand(stream, data);
      this.#onTaken();
    }
    if (this.#isEnding && !this.#isBusy) this.#close();
  }

  #drop(): void {
    if (this.#isGone) return;
    this.leave();
    this.#onDropped();
    this.#sink.onDropped?.();
  }

  #close(): void {
    if (this.#isGone) return;
    this.leave();
    this.#sink.onEnd();
  }
}
