import type { Readable, Writable } from 'node:stream';
import { DetachFilter } from '../lib/detach-keys.ts';
import { frame } from '../lib/frames.ts';
import { withResolvers } from '../lib/promises.ts';
import type { Attachment } from '../runtime/attach.ts';

/** One client's view of a process's terminal or pipes. */
export interface AttachSession {
  isTty: boolean;
  /** Carries bytes both ways until the process ends, the client detaches or leaves. Does not close the streams. */
  pump(io: ClientStreams): Promise<'ended' | 'detached'>;
}

export interface ClientStreams {
  /** Bytes for stdin; its end is EOF for a process that takes stdin once. */
  input: Readable;
  output: Writable;
  /** Docker's frames, for a process without a terminal. */
  isFramed: boolean;
  /** Aborted when the client is gone. */
  signal: AbortSignal;
}

/** What a client wants to see and say. */
export interface StreamWishes {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  /** The sequence that detaches, where one is looked for. */
  detachKeys?: Buffer;
  /** Writes what comes before anything live: the stored log. */
  replay?: (io: ClientStreams) => Promise<void>;
}

/** What is kept for a client that reads more slowly than the process writes. */
const MAX_LAG_BYTES = 1024 * 1024;

interface Client {
  join(attachment: Attachment): void;
  leave(): void;
}

/**
 * Who is attached to which container. A client may come before the container starts: it is joined in the instant
 * between create and start, so that it sees the first byte.
 */
export class Streams {
  readonly #clients = new Map<string, Set<Client>>();

  /** A session on a container. `live` connects to it if it runs by then; else the client waits for its start. */
  session(
    id: string,
    isTty: boolean,
    wishes: StreamWishes,
    live: () => Promise<Attachment | undefined>,
  ): AttachSession {
    return {
      isTty,
      pump: async (io) => {
        await wishes.replay?.(io);
        const { promise: left, resolve: leave } = withResolvers<'ended'>();
        const { promise: joined, resolve: join } = withResolvers<Attachment>();
        const client: Client = { join, leave: () => leave('ended') };
        const onAbort = () => leave('ended');
        io.signal.addEventListener('abort', onAbort, { once: true });
        if (io.signal.aborted) onAbort();
        // known to those who start it before it is asked whether it runs: one of the two must see the other
        this.#of(id).add(client);
        try {
          const attachment = await Promise.race([this.#connect(live, joined), left]);
          return attachment === 'ended' ? attachment : await carry(attachment, wishes, io, left);
        } finally {
          io.signal.removeEventListener('abort', onAbort);
          this.#forget(id, client);
        }
      },
    };
  }

  /** True if somebody waits for this container's first byte. */
  isAwaited(id: string): boolean {
    return this.#clients.has(id);
  }

  /** The container is made and not yet started: everyone who waits joins now. */
  arrive(id: string, attachment: Attachment): void {
    for (const client of this.#clients.get(id) ?? []) client.join(attachment);
  }

  /** The container did not start, or is gone: nobody need wait any longer. */
  dismiss(id: string): void {
    for (const client of this.#clients.get(id) ?? []) client.leave();
  }

  async #connect(
    live: () => Promise<Attachment | undefined>,
    joined: Promise<Attachment>,
  ): Promise<Attachment> {
    return (await live()) ?? joined;
  }

  #of(id: string): Set<Client> {
    const known = this.#clients.get(id);
    if (known !== undefined) return known;
    const clients = new Set<Client>();
    this.#clients.set(id, clients);
    return clients;
  }

  #forget(id: string, client: Client): void {
    const clients = this.#clients.get(id);
    clients?.delete(client);
    if (clients?.size === 0) this.#clients.delete(id);
  }
}

/** Joins a client to a live process until either is done, or `left`; containers and execs alike. */
export async function carry(
  attachment: Attachment,
  wishes: StreamWishes,
  io: ClientStreams,
  left?: Promise<unknown>,
): Promise<'ended' | 'detached'> {
  const { promise: over, resolve: finish } = withResolvers<'ended' | 'detached'>();
  const isWanted = (stream: 1 | 2) => (stream === 1 ? wishes.stdout : wishes.stderr);
  const unsubscribe = attachment.subscribe(
    {
      onOutput: (stream, data) => {
        if (!isWanted(stream) || io.output.destroyed) return undefined;
        const isTaken = io.output.write(io.isFramed ? frame(stream, data) : data);
        return isTaken ? undefined : drained(io.output);
      },
      onEnd: () => finish('ended'),
      // cut off, so that the client cannot take a part for the whole
      onDropped: () => io.output.destroy(new Error('the client does not read')),
    },
    { maxBufferedBytes: MAX_LAG_BYTES },
  );
  const onGone = () => finish('ended');
  io.output.once('close', onGone);
  if (io.output.destroyed) onGone();
  void left?.then(onGone);
  if (wishes.stdin) feed(attachment, wishes, io).then((end) => end === 'detached' && finish(end), onGone);
  else io.input.resume(); // what is not wanted must still be read, or the client's end is never seen
  try {
    return await over;
  } finally {
    unsubscribe();
    io.output.removeListener('close', onGone);
  }
}

/** Client → stdin. Ends with the client's EOF, which is passed on. */
async function feed(
  attachment: Attachment,
  { detachKeys }: StreamWishes,
  io: ClientStreams,
): Promise<'eof' | 'detached'> {
  const filter = detachKeys === undefined ? undefined : new DetachFilter(detachKeys);
  // who detaches still gets what is on its way: the input is the same connection
  for await (const chunk of io.input.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    const { bytes, isDetached } = filter?.push(chunk) ?? { bytes: chunk, isDetached: false };
    if (bytes.length > 0) await attachment.write(bytes);
    if (isDetached) return 'detached';
  }
  attachment.endStdin();
  return 'eof';
}

/** Resolves when the stream takes more, or never will. */
export async function drained(output: Writable): Promise<void> {
  const { promise, resolve } = withResolvers<void>();
  output.once('drain', resolve).once('close', resolve);
  if (output.destroyed) resolve();
  await promise;
  output.removeListener('drain', resolve).removeListener('close', resolve);
}
