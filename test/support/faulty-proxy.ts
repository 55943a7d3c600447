/**
 * An HTTP proxy in front of a registry that does what bad networks and servers do. It passes everything on until it
 * is given a fault; faults are tried in the order in which they were given, the first that fits is used.
 *
 *     await using proxy = await startFaultyProxy(registry.host);
 *     proxy.fault({ path: /\/blobs\//, do: { kind: 'cut', afterBytes: 1_000_000 } });         // every blob, every time
 *     proxy.fault({ path: /\/manifests\//, times: 2, do: { kind: 'status', status: 503 } });  // the first two
 *     docker pull ${proxy.host}/app/web:1
 *     proxy.seen(/\/blobs\//).length
 */
import { once } from 'node:events';
import {
  type ClientRequest,
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** What goes wrong. Bytes are those of the response's body, counted anew for each response. */
export type Fault =
  /** The connection is closed after so many bytes. */
  | { kind: 'cut'; afterBytes: number }
  /** The body ends after so many bytes as if that were all; no length is announced. */
  | { kind: 'truncate'; afterBytes: number }
  /** So many bytes, then nothing; the connection stays open. */
  | { kind: 'stall'; afterBytes: number }
  /** A few bytes at a time, for ever if need be. */
  | { kind: 'drip'; bytes: number; everyMs: number }
  /** One bit of the byte at this place is turned over. */
  | { kind: 'flip'; atByte: number }
  /** The announced length is off by so much. */
  | { kind: 'length'; by: number }
  /** The registry is not asked; this is the answer. */
  | { kind: 'status'; status: number; headers?: Record<string, string>; body?: string }
  /** The same path at another `host:port`, or at a URL. */
  | { kind: 'redirect'; to: string; status?: number }
  /** `Range` is not passed on: the whole of it comes, with status 200. */
  | { kind: 'no ranges' }
  /** The connection is closed without an answer. */
  | { kind: 'hang up' }
  /** It stays open, without one. */
  | { kind: 'silence' }
  /** A header of the answer says something else, or is not there. */
  | { kind: 'header'; name: string; value?: string }
  /** Both connections are closed after so many bytes of the request's body. */
  | { kind: 'cut upload'; afterBytes: number }
  /** No more is taken of the request's body after so many bytes. */
  | { kind: 'stall upload'; afterBytes: number };

export interface FaultRule {
  /** Of the request's path and query. */
  path: RegExp;
  /** Only requests with this method. */
  method?: string;
  /** Only requests with such headers. */
  when?: (headers: IncomingHttpHeaders) => boolean;
  /** How many requests it meets; all, if left out. */
  times?: number;
  /** How many requests it lets pass before. */
  after?: number;
  do: Fault;
}

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** The client's port: tells one connection from another. */
  readonly port: number | undefined;
  /** The fault that it met, if any. */
  readonly fault: Fault['kind'] | undefined;
  /** Of the answer's body, so far; of answers that come from the registry. */
  readonly sentBytes: number;
}

export interface FaultyProxy extends AsyncDisposable {
  /** `127.0.0.1:PORT`. */
  readonly host: string;
  readonly requests: readonly SeenRequest[];
  /** Adds a fault. */
  fault(rule: FaultRule): void;
  /** Takes all faults away, and forgets the requests. */
  reset(): void;
  /** Closes the connections of answers for such paths that are under way. */
  hangUp(path: RegExp): void;
  /** The requests for paths like this. */
  seen(path: RegExp): SeenRequest[];
}

/** Starts one on a free port in front of `upstream`, a `host:port`. */
export async function startFaultyProxy(upstream: string): Promise<FaultyProxy> {
  const rules: { rule: FaultRule; met: number }[] = [];
  const requests: (SeenRequest & { sentBytes: number })[] = [];
  const underWay = new Set<{ path: string; socket: Socket }>();

  const faultFor = (method: string, path: string, headers: IncomingHttpHeaders): Fault | undefined => {
    for (const entry of rules) {
      const { rule } = entry;
      if (!rule.path.test(path) || rule.when?.(headers) === false) continue;
      if (rule.method !== undefined && rule.method !== method) continue;
      const turn = entry.met++ - (rule.after ?? 0);
      if (turn >= 0 && turn < (rule.times ?? Number.POSITIVE_INFINITY)) return rule.do;
    }
    return undefined;
  };
  const server = createServer((incoming, response) => {
    const path = incoming.url ?? '';
    const { method = '', headers, socket } = incoming;
    const fault = faultFor(method, path, headers);
    const seen = { method, path, headers, port: socket.remotePort, fault: fault?.kind, sentBytes: 0 };
    requests.push(seen);
    const answer = { path, socket };
    underWay.add(answer);
    response.once('close', () => underWay.delete(answer));
    const onSent = (bytes: number) => {
      seen.sentBytes += bytes;
    };
    if (!answerAlone(fault, incoming, response)) forward(upstream, { fault, onSent }, incoming, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    host: `127.0.0.1:${port}`,
    requests,
    fault: (rule) => void rules.push({ rule, met: 0 }),
    reset: () => {
      rules.length = 0;
      requests.length = 0;
    },
    hangUp: (wanted) => {
      for (const { path, socket } of underWay) if (wanted.test(path)) socket.destroy();
    },
    seen: (path) => requests.filter((seen) => path.test(seen.path)),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** Faults for which the registry is not needed; false if it is. */
function answerAlone(fault: Fault | undefined, incoming: IncomingMessage, response: ServerResponse): boolean {
  switch (fault?.kind) {
    case 'status':
      response.writeHead(fault.status, {
        'content-length': Buffer.byteLength(fault.body ?? ''),
        ...fault.headers,
      });
      response.end(fault.body);
      return true;
    case 'redirect': {
      const location = fault.to.includes('://') ? fault.to : `http://${fault.to}${incoming.url}`;
      response.writeHead(fault.status ?? 307, { location }).end();
      return true;
    }
    case 'hang up':
      incoming.socket.destroy();
      return true;
    case 'silence':
      return true;
    default:
      return false;
  }
}

function forward(
  upstream: string,
  { fault, onSent }: { fault: Fault | undefined; onSent: (bytes: number) => void },
  incoming: IncomingMessage,
  response: ServerResponse,
): void {
  const headers = { ...incoming.headers };
  if (fault?.kind === 'no ranges') delete headers.range;
  const [hostname, port] = upstream.split(':');
  const outgoing = request({ hostname, port, path: incoming.url, method: incoming.method, headers });
  outgoing.once('error', () => incoming.socket.destroy());
  outgoing.once('response', (answer) => {
    response.once('close', () => answer.destroy());
    void relay(answer, response, { fault, onSent }).catch(() => incoming.socket.destroy());
  });
  if (fault?.kind === 'cut upload' || fault?.kind === 'stall upload') {
    void passSome(incoming, outgoing, fault).catch(() => incoming.socket.destroy());
  } else incoming.pipe(outgoing);
}

async function passSome(
  incoming: IncomingMessage,
  outgoing: ClientRequest,
  { kind, afterBytes }: { kind: 'cut upload' | 'stall upload'; afterBytes: number },
): Promise<void> {
  let left = afterBytes;
  for await (const chunk of incoming.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    const part = chunk.subarray(0, left);
    await new Promise((resolve) => outgoing.write(part, resolve));
    left -= part.length;
    if (left > 0) continue;
    if (kind === 'stall upload') return void incoming.pause();
    outgoing.destroy();
    incoming.socket.destroy();
    return;
  }
  outgoing.end();
}

async function relay(
  answer: IncomingMessage,
  response: ServerResponse,
  { fault, onSent }: { fault: Fault | undefined; onSent: (bytes: number) => void },
): Promise<void> {
  const headers = { ...answer.headers };
  if (fault?.kind === 'truncate') delete headers['content-length'];
  if (fault?.kind === 'length') headers['content-length'] = `${Number(headers['content-length']) + fault.by}`;
  if (fault?.kind === 'header') {
    delete headers[fault.name];
    if (fault.value !== undefined) headers[fault.name] = fault.value;
  }
  response.writeHead(answer.statusCode ?? 502, headers);
  let sent = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    for (const part of fault === undefined ? [chunk] : spoil(chunk, sent, fault)) {
      if (response.destroyed) return;
      await written(response, part);
      onSent(part.length);
      if (fault?.kind === 'drip') await sleep(fault.everyMs);
    }
    sent += chunk.length;
    if (fault?.kind === 'cut' && sent >= fault.afterBytes) return void response.socket?.destroy();
    if (fault?.kind === 'stall' && sent >= fault.afterBytes) return;
    if (fault?.kind === 'truncate' && sent >= fault.afterBytes) break;
  }
  if (fault?.kind === 'length' && fault.by > 0) response.socket?.destroySoon();
  else response.end();
}

/** What is left of a chunk that begins at `sent`. */
function spoil(chunk: Buffer, sent: number, fault: Fault): Buffer[] {
  switch (fault.kind) {
    case 'cut':
    case 'stall':
    case 'truncate':
      return [chunk.subarray(0, Math.max(0, fault.afterBytes - sent))];
    case 'flip': {
      const at = fault.atByte - sent;
      if (at < 0 || at >= chunk.length) return [chunk];
      const spoiled = Buffer.from(chunk);
      spoiled[at] = (spoiled[at] ?? 0) ^ 1;
      return [spoiled];
    }
    case 'drip': {
      const parts: Buffer[] = [];
      for (let at = 0; at < chunk.length; at += fault.bytes) parts.push(chunk.subarray(at, at + fault.bytes));
      return parts;
    }
    default:
      return [chunk];
  }
}

/** Resolves when the kernel has it, so that a cut after it loses nothing of it. */
function written(response: ServerResponse, part: Buffer): Promise<void> {
  if (part.length === 0) return Promise.resolve();
  return new Promise((resolve, reject) => {
    response.once('close', resolve);
    response.write(part, (error) => {
      response.off('close', resolve);
      if (error) reject(error);
      else resolve();
    });
  });
}
