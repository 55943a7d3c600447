import { once } from 'node:events';
import type { Socket } from 'node:net';
import { PassThrough, Writable } from 'node:stream';
import { messageOf } from '../errors.ts';
import {
  acceptOf,
  BINARY,
  CLOSE,
  closeFrame,
  FrameReader,
  messageFrame,
  NORMAL,
  type Opcode,
  PING,
  PONG,
  PROTOCOL_ERROR,
  TEXT,
} from '../lib/websocket.ts';
import type { ApiContext } from './context.ts';
import type { AttachSession } from './session.ts';
import { sayGoodbye, takeoverOf } from './takeover.ts';

/** How long a client may take to read what is left when the process has ended. */
const FINISH_MS = 5000;

/**
 * Turns the request's connection into a websocket with a session on it: RFC 6455 without extensions. What the client says is
 * stdin, whatever its frames; what the process writes is a message per write, never in Docker's frames.
 */
export async function serveWebsocket(
  ctx: ApiContext,
  session: AttachSession,
  { isText }: { isText: boolean },
): Promise<void> {
  const { signal } = ctx.state; // watches the connection from here on
  ctx.respond = false;
  const socket = takeoverOf(ctx.req)?.release(ctx.res);
  if (socket === undefined) throw new Error(`${ctx.state.route} is no route that lets go of its connection`);
  const handshake = handshakeOf(ctx);
  socket.write(handshake.text);
  if (!handshake.isAccepted) return sayGoodbye(socket);
  const input = new PassThrough();
  const output = messagesTo(socket, isText ? TEXT : BINARY);
  void listen(socket, input, output); // ends with the connection, and never fails
  try {
    await session.pump({ input, output, isFramed: false, signal });
  } catch (cause) {
    if (!output.destroyed) output.write(`Error attaching: ${messageOf(cause)}\n`);
  }
  input.destroy();
  if (output.errored !== null) socket.destroy(); // a client that does not read must not take a part for the whole
  await finish(output, socket);
  sayGoodbye(socket);
}

/** Gives what was written its time to be sent, and the close behind it. */
async function finish(output: Writable, socket: Socket): Promise<void> {
  if (output.destroyed) return;
  const timer = setTimeout(() => socket.destroy(), FINISH_MS);
  output.end();
  await once(output, 'close');
  clearTimeout(timer);
}

/** RFC 6455, 4.2; refusals are worded as Go's websocket server words them. */
function handshakeOf({ req }: ApiContext): { isAccepted: boolean; text: string } {
  const { headers } = req;
  const key = headers['sec-websocket-key'] ?? '';
  const hasConnection = /(^|,)\s*upgrade\s*(,|$)/i.test(headers.connection ?? '');
  const refuse = (text: string, more = '') => ({
    isAccepted: false,
    text: `HTTP/1.1 400 Bad Request\r\n${more}\r\n${text}`,
  });
  if (headers.upgrade?.toLowerCase() !== 'websocket' || !hasConnection)
    return refuse('not websocket protocol');
  if (!/^[A-Za-z0-9+/]{22}==$/.test(key)) return refuse('mismatch challenge/response');
  if (headers['sec-websocket-version'] !== '13')
    return refuse('missing or bad WebSocket Version', 'Sec-WebSocket-Version: 13\r\n');
  const protocol = headers['sec-websocket-protocol'] ?? '';
  const agreed = /^[\w!#$%&'*+.^`|~-]+$/.test(protocol) ? `Sec-WebSocket-Protocol: ${protocol}\r\n` : '';
  return {
    isAccepted: true,
    text:
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      `Sec-WebSocket-Accept: ${acceptOf(key)}\r\n${agreed}\r\n`,
  };
}

/** Each write is a message. Waits for the connection as the connection waits for the client. */
function messagesTo(socket: Socket, opcode: Opcode): Writable {
  const output = new Writable({
    write(chunk: Buffer, _encoding, done) {
      if (socket.write(messageFrame(opcode, chunk))) done();
      else socket.once('drain', done);
    },
    final(done) {
      socket.write(closeFrame(NORMAL));
      done();
    },
  });
  output.on('error', () => {}); // whoever destroyed it knows
  socket.once('close', () => output.destroy());
  return output;
}

/** Client → stdin, until it closes, leaves, or breaks the rules. */
async function listen(socket: Socket, input: PassThrough, output: Writable): Promise<void> {
  const reader = new FrameReader();
  let code = NORMAL;
  try {
    for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      for (const piece of reader.push(chunk)) {
        if (piece.kind === 'data') await pour(piece.bytes, input);
        else if (piece.opcode === CLOSE) return;
        // one who only asks and does not read gets no answers: they would pile up here
        else if (piece.opcode === PING && !socket.writableNeedDrain)
          socket.write(messageFrame(PONG, piece.bytes));
      }
    }
  } catch {
    code = PROTOCOL_ERROR; // or the connection broke, and nobody reads this
  } finally {
    input.end();
    if (!socket.destroyed && !output.destroyed) socket.write(closeFrame(code));
    output.destroy(); // the session is over
  }
}

/** Stdin that nobody reads makes the client wait, and stdin that is over takes nothing. */
async function pour(bytes: Buffer, input: PassThrough): Promise<void> {
  if (input.destroyed || input.writableEnded || input.write(bytes)) return;
  const over = new AbortController();
  const options = { signal: over.signal };
  await Promise.race([once(input, 'drain', options), once(input, 'close', options)]).catch(() => {});
  over.abort();
}
