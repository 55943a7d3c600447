/**
 * An HTTP proxy as companies have them: CONNECT for https, absolute addresses for http, with a password if told so.
 *
 *     await using proxy = await startForwardProxy({ user: 'eve:secret' });
 *     new Proxies({ http: proxy.url, https: proxy.url, no: '' })
 *     proxy.requests // [{ method: 'CONNECT', target: 'registry:443', … }]
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { Certificate } from './certificate.ts';

export interface ForwardProxy extends AsyncDisposable {
  /** `http://127.0.0.1:PORT`, with the user in it if there is one. */
  readonly url: string;
  readonly host: string;
  readonly requests: readonly { method: string; target: string; authorization: string | undefined }[];
  /** Closes what is open. From now on every request is answered with this; undefined: they are passed on again. */
  refuse(status: number | undefined): void;
  forget(): void;
}

interface Settings {
  /** `name:password` that everybody must give. */
  user?: string;
  /** Speaks https with its clients. */
  certificate?: Certificate;
  /** Where hosts really are, by `host:port`; others are where they say. */
  places?: Readonly<Record<string, string>>;
}

export async function startForwardProxy(settings: Settings = {}): Promise<ForwardProxy> {
  const { user, certificate, places = {} } = settings;
  const requests: { method: string; target: string; authorization: string | undefined }[] = [];
  let refusal: number | undefined;
  const sockets = new Set<Socket>();

  /** A status to refuse with, or undefined. */
  const judge = ({ method = '', url = '', headers }: IncomingMessage): number | undefined => {
    const authorization = headers['proxy-authorization'];
    requests.push({ method, target: url, authorization });
    const wanted = user && `Basic ${Buffer.from(user).toString('base64')}`;
    return refusal ?? (wanted !== undefined && authorization !== wanted ? 407 : undefined);
  };
  const placeOf = (host: string) => (places[host] ?? host).split(':');
  const pass = (incoming: IncomingMessage, response: ServerResponse) => {
    const status = judge(incoming);
    if (status !== undefined) return void response.writeHead(status).end();
    const url = new URL(incoming.url ?? '');
    const [hostname, port] = placeOf(url.port ? url.host : `${url.host}:80`);
    const { 'proxy-authorization': _ours, ...headers } = incoming.headers;
    const path = `${url.pathname}${url.search}`;
    const outgoing = request({ hostname, port, path, method: incoming.method, headers });
    outgoing.once('error', () => response.writeHead(502).end());
    outgoing.once('response', (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    incoming.pipe(outgoing);
  };
  const tunnel = (incoming: IncomingMessage, client: Socket) => {
    const status = judge(incoming);
    if (status !== undefined) return void client.end(`HTTP/1.1 ${status} ${words[status] ?? 'No'}\r\n\r\n`);
    const [host = '', port] = placeOf(incoming.url ?? '');
    const server = connect(Number(port), host);
    sockets.add(server);
    server.once('connect', () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      client.pipe(server).pipe(client);
    });
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const) {
      one.on('error', () => other.destroy());
      one.once('close', () => other.destroy());
    }
  };
  const server = certificate
    ? createSecureServer({ cert: certificate.certificate, key: certificate.key }, pass)
    : createServer(pass);
  server.on('connect', tunnel);
  server.on('connection', (socket: Socket) => void sockets.add(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    host,
    url: `${certificate ? 'https' : 'http'}://${user ? `${user}@` : ''}${host}`,
    requests,
    refuse: (status) => {
      refusal = status;
      for (const socket of sockets) socket.destroy();
      sockets.clear();
    },
    forget: () => {
      requests.length = 0;
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

const words: Readonly<Record<number, string>> = {
  403: 'Forbidden',
  407: 'Proxy Authentication Required',
  502: 'Bad Gateway',
};
