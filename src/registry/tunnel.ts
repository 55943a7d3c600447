import { type ClientRequest, type RequestOptions, request } from 'node:http';
import type { Agent as SecureAgent } from 'node:https';
import { isIP, type Socket } from 'node:net';
import type { SecureContext } from 'node:tls';
import { proxyAuthorization } from '../lib/proxy-address.ts';
import { SilenceWatch } from './silence-watch.ts';

/** A proxy that did not open a tunnel: nobody could speak to it, or it said no. */
export class TunnelError extends Error {
  override name = 'TunnelError';
  readonly proxy: URL;
  /** What it said instead of yes; undefined if it said nothing. */
  readonly refusal: { readonly status: number; readonly words: string } | undefined;

  constructor(proxy: URL, o: { refusal?: { status: number; words: string }; cause?: unknown }) {
    super(o.refusal?.words ?? 'the proxy was not reached', { cause: o.cause });
    this.proxy = proxy;
    this.refusal = o.refusal;
  }
}

/**
 * Lets an agent of https make its connections through a proxy (RFC 9110, 9.3.6): Node has this built in from version
 * 24 on alone, and boards run older ones.
 */
export async function tunnelling(
  agent: SecureAgent,
  proxy: URL,
  { context, stallMs }: { context: SecureContext; stallMs: number },
): Promise<void> {
  const { connect } = await import('node:tls');
  const begin = await opener(proxy, context);
  agent.createConnection = (options, callback) => {
    const [host, port] = [options.host ?? '', options.port ?? 443];
    const target = `${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port}`;
    const authorization = proxyAuthorization(proxy);
    const outgoing = begin({
      method: 'CONNECT',
      path: target,
      headers: {
        host: target,
        ...(authorization !== undefined && { 'proxy-authorization': authorization }),
      },
    });
    opened(outgoing, proxy, stallMs).then(
      (socket) =>
        callback?.(null, connect({ ...agent.options, host, servername: options.servername ?? '', socket })),
      (cause: Error) => callback?.(cause, undefined as never),
    );
    return undefined;
  };
}

/** Begins requests to a proxy, each on a connection of its own, which is the tunnel's afterwards. */
async function opener(
  proxy: URL,
  context: SecureContext,
): Promise<(options: RequestOptions) => ClientRequest> {
  const origin = new URL(proxy.origin);
  if (proxy.protocol === 'http:') return (options) => request(origin, { ...options, agent: false });
  const secure = await import('node:https');
  const agent = new secure.Agent({ secureContext: context });
  const servername = serverNameOf(proxy);
  return (options) => secure.request(origin, { ...options, agent, servername });
}

/** What a proxy must call itself; Node would take it from the header that names the host behind it. */
export function serverNameOf({ hostname }: URL): string {
  return isIP(hostname.replace(/^\[(.*)\]$/, '$1')) === 0 ? hostname : '';
}

/** The connection that a CONNECT leads to. Rejects with a {@link TunnelError}. */
async function opened(outgoing: ClientRequest, proxy: URL, stallMs: number): Promise<Socket> {
  const watch = new SilenceWatch(outgoing, { stallMs });
  try {
    return await new Promise<Socket>((resolve, reject) => {
      outgoing.once('connect', ({ statusCode = 0, statusMessage = '' }, socket: Socket, head) => {
        if (statusCode === 200 && head.length === 0) return resolve(socket);
        socket.destroy();
        // Go's words: those of the status alone
        const words = statusCode === 200 ? 'malformed HTTP response' : statusMessage || `${statusCode}`;
        reject(new TunnelError(proxy, { refusal: { status: statusCode, words } }));
      });
      outgoing.on('error', (cause) => reject(new TunnelError(proxy, { cause })));
      outgoing.end();
      watch.answerIsDue();
    });
  } finally {
    watch.stop();
  }
}
