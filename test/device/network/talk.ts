import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { codeOf } from '../../../src/errors.ts';

/** How the parties of the network tests talk: everyone who listens answers with its name and the client's address. */

export type Protocol = 'tcp' | 'udp';

export interface Place {
  protocol: Protocol;
  host: string;
  port: number;
}

const ANSWER_WITHIN_MS = 700;

/** Answers `NAME sees ADDRESS` at a port, on all addresses, until disposed of. */
export async function serve(
  name: string,
  { protocol, port, host = '0.0.0.0' }: { protocol: Protocol; port: number; host?: string },
): Promise<AsyncDisposable> {
  if (protocol === 'tcp') {
    const server = createServer((socket) => socket.end(`${name} sees ${socket.remoteAddress}`));
    server.listen(port, host);
    await once(server, 'listening');
    return { [Symbol.asyncDispose]: async () => void server.close() };
  }
  const socket = createSocket('udp4', (_, { address, port: from }) =>
    socket.send(`${name} sees ${address}`, from, address),
  );
  socket.bind(port, host);
  await once(socket, 'listening');
  return { [Symbol.asyncDispose]: async () => void socket.close() };
}

/** What somebody answers at that place; otherwise `silence`, or the system's error code. */
export async function ask({ protocol, host, port }: Place, from?: number): Promise<string> {
  return protocol === 'tcp' ? askByTcp(host, port) : askByUdp(host, port, from);
}

async function askByTcp(host: string, port: number): Promise<string> {
  const socket = connect({ host, port });
  socket.setTimeout(ANSWER_WITHIN_MS, () => socket.destroy(Object.assign(new Error(), { code: 'silence' })));
  try {
    let text = '';
    for await (const chunk of socket) text += chunk;
    return text;
  } catch (cause) {
    return codeOf(cause) ?? String(cause);
  }
}

async function askByUdp(host: string, port: number, from = 0): Promise<string> {
  const socket = createSocket('udp4');
  try {
    socket.bind(from);
    await once(socket, 'listening');
    const answer = once(socket, 'message', { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
    socket.send('who?', port, host);
    const [bytes] = await answer;
    return String(bytes);
  } catch (cause) {
    return (cause as Error).name === 'AbortError' ? 'silence' : (codeOf(cause) ?? String(cause));
  } finally {
    socket.close();
  }
}
