import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingHttpHeaders, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type App, createApp } from '../../src/api/app.ts';
import { serverOptions } from '../../src/api/server.ts';
import { type Log, silentLog } from '../../src/lib/log.ts';
import { type Changes, fakeEngine } from './fake-engine.ts';

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  /** The body as JSON; undefined if it is none. */
  json: unknown;
}

export interface Call {
  headers?: Record<string, string>;
  body?: string;
}

/** An API over a fake engine on a real Unix socket. */
export class World {
  readonly socket: string;
  readonly app: App;

  constructor(socket: string, app: App) {
    this.socket = socket;
    this.app = app;
  }

  /** One request on a connection of its own: `GET /_ping`. A body is sent as JSON unless the headers say otherwise. */
  async call(target: string, { headers = {}, body }: Call = {}): Promise<Answer> {
    const [method = '', path = ''] = target.split(' ', 2);
    const type = body === undefined ? {} : { 'Content-Type': 'application/json' };
    const sent = request({
      socketPath: this.socket,
      method,
      path,
      agent: false,
      headers: {
        ...type,
        ...(body !== undefined && { 'Content-Length': Buffer.byteLength(body) }),
        ...headers,
      },
    });
    sent.end(body);
    const [response] = await once(sent, 'response');
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    return { status: response.statusCode, headers: response.headers, text, json: jsonOf(text) };
  }

  /** A bare connection. */
  async connect(): Promise<Socket> {
    const socket = connect({ path: this.socket, allowHalfOpen: true });
    await once(socket, 'connect');
    return socket;
  }

  /** Bytes in, all bytes out until the server ends the connection. */
  async raw(bytes: string, { halfClose = false } = {}): Promise<string> {
    const socket = await this.connect();
    if (halfClose) socket.end(bytes);
    else socket.write(bytes);
    return readAll(socket);
  }
}

/** Everything that still comes on a connection. */
export async function readAll(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  socket.destroy();
  return Buffer.concat(chunks).toString('latin1');
}

/** Bytes of a connection until they contain a text; what follows it is put back. */
export async function readUntil(socket: Socket, end: string): Promise<string> {
  let read = Buffer.alloc(0);
  for (;;) {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) {
      if (socket.readableEnded)
        throw new Error(`the connection ended after ${JSON.stringify(read.toString())}`);
      await Promise.race([once(socket, 'readable'), once(socket, 'end')]);
      continue;
    }
    read = Buffer.concat([read, chunk]);
    const at = read.indexOf(end);
    if (at < 0) continue;
    const rest = read.subarray(at + end.length);
    if (rest.length > 0) socket.unshift(rest);
    return read.toString('latin1', 0, at + end.length);
  }
}

/** Starts an API for one test; it is gone when the test is. */
export async function world(
  t: TestContext,
  o: { ceiling?: string; floor?: string; engine?: Changes; log?: Log } = {},
): Promise<World> {
  const directory = await mkdtemp(join(tmpdir(), 'skerry-api-'));
  const app = createApp({
    engine: fakeEngine(o.engine),
    ceiling: o.ceiling ?? '1.45',
    floor: o.floor ?? '1.24',
    release: '26.1.0',
    host: { os: 'linux', architecture: 'amd64' },
    log: o.log ?? silentLog,
  });
  const server = app.attach(createServer(serverOptions));
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  const path = join(directory, 's');
  server.listen(path);
  await once(server, 'listening');
  t.after(async () => {
    await app.drain(0);
    for (const socket of sockets) socket.destroy();
    server.close();
    await rm(directory, { recursive: true, force: true });
  });
  return new World(path, app);
}

/** The seven ceilings, oldest first. */
export const ceilings = ['1.39', '1.40', '1.41', '1.42', '1.43', '1.44', '1.45'];

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
