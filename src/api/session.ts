import type { Socket } from 'node:net';
import { PassThrough, type Readable, type Writable } from 'node:stream';
import { messageOf } from '../errors.ts';
import type { ApiContext } from './context.ts';
import { sayGoodbye, takeoverOf } from './takeover.ts';

/** One client's view of a process's terminal or pipes. */
export interface AttachSession {
  isTty: boolean;
  /** Carries bytes both ways until the process ends, the client detaches or leaves. Does not close the streams. */
  pump(io: ClientStreams): Promise<unknown>;
}

export interface ClientStreams {
  /** Bytes for stdin; their end is the client's half-close. */
  input: Readable;
  output: Writable;
  /** Docker's frames, for a process without a terminal. */
  isFramed: boolean;
  /** Aborted when the client is gone. */
  signal: AbortSignal;
}

const RAW = 'application/vnd.docker.raw-stream';
const MULTIPLEXED = 'application/vnd.docker.multiplexed-stream';

/** How raw and framed bytes are called: raw always, or by what they are. */
export function streamType({ isTty, tells }: { isTty: boolean; tells: boolean }): string {
  return tells && !isTty ? MULTIPLEXED : RAW;
}

/**
 * Turns the request's connection into the session's: handshake, bytes both ways, end. With an `Upgrade` header the
 * handshake is a 101, else a 200 that never ends; after it neither Koa nor Node's parser has a part in it.
 */
export async function serveSession(
  ctx: ApiContext,
  session: AttachSession,
  o: {
    /** The 101's content type tells frames from raw bytes; the 200's never does. */
    tells: boolean;
    /** The daemon's headers stand in the handshake: exec start has them, attach has not. */
    withDaemonHeaders: boolean;
  },
): Promise<void> {
  const { req, res, state } = ctx;
  const { signal } = state; // watches the connection from here on
  ctx.respond = false;
  const socket = takeoverOf(req)?.release(res);
  if (socket === undefined) throw new Error(`${state.route} is no route that lets go of its connection`);
  const type = streamType({ isTty: session.isTty, tells: o.tells });
  const head =
    req.headers.upgrade === undefined
      ? `HTTP/1.1 200 OK\r\nContent-Type: ${RAW}\r\n`
      : `HTTP/1.1 101 UPGRADED\r\nContent-Type: ${type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n`;
  socket.write(`${head}${o.withDaemonHeaders ? daemonHeaders(ctx) : ''}\r\n`);
  const input = inputOf(socket);
  try {
    await session.pump({ input, output: socket, isFramed: !session.isTty, signal });
  } catch (cause) {
    if (!signal.aborted) socket.write(`Error attaching: ${messageOf(cause)}\n`);
  }
  input.destroy();
  sayGoodbye(socket);
}

/**
 * What the client says, as a stream of its own: whoever reads a stream to its end destroys it, which would take the
 * other direction along. For the same reason this is no `pipeline`.
 */
function inputOf(socket: Socket): Readable {
  const input = new PassThrough();
  socket.pipe(input);
  socket.once('close', () => input.end());
  return input;
}

function daemonHeaders({ res }: ApiContext): string {
  return ['Api-Version', 'Docker-Experimental', 'Ostype', 'Server']
    .map((name) => `${name}: ${res.getHeader(name)}\r\n`)
    .join('');
}
