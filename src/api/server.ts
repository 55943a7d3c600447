import { type Server, type ServerOptions, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { codeOf } from '../errors.ts';
import { EngineRequest, Takeover } from './takeover.ts';

/** dockerd's bound on a request's header block. */
const MAX_HEADER_BYTES = 1024 * 1024;
/** Time for a request's headers to arrive, counted from the connection's start or the first byte of the next request. */
const HEADERS_TIMEOUT_MS = 60_000;

/** What a server of the API must be made with: `http.createServer(serverOptions)`, or https with certificates beside. */
export const serverOptions: ServerOptions<typeof EngineRequest> = {
  IncomingMessage: EngineRequest,
  maxHeaderSize: MAX_HEADER_BYTES,
  headersTimeout: HEADERS_TIMEOUT_MS,
  // bodies and answers take as long as they take: uploads, builds, streams
  requestTimeout: 0,
  // idle connections are kept, as dockerd keeps them: closing one races with its next request
  keepAliveTimeout: 0,
  // answered in dockerd's words instead
  requireHostHeader: false,
};

type Serve = (req: EngineRequest, res: ServerResponse) => void;

/** Lets a server that was made with {@link serverOptions} answer by `serve`. */
export function serveOn(server: Server<typeof EngineRequest>, serve: Serve): void {
  const onRequest = (req: EngineRequest, res: ServerResponse) => {
    // persistent is HTTP/1.1's default, and dockerd does not say it either
    if (res.shouldKeepAlive && req.httpVersion === '1.1') res.removeHeader('Connection');
    if (req.httpVersion === '1.1' && req.headers.host === undefined) {
      refuse(res, '400 Bad Request: missing required Host header');
    } else serve(req, res);
  };
  // a client that closes its sending half is still answered; lib docs do not mention this switch
  Object.assign(server, { httpAllowHalfOpen: true });
  server.on('request', onRequest);
  // the interim answer is sent when the body is read for the first time, if it is
  server.on('checkContinue', onRequest);
  server.on('upgrade', (req: EngineRequest, socket: Socket, head: Buffer) => {
    req.takeover = new Takeover(req, socket, head);
    onRequest(req, req.takeover.response());
  });
  server.on('clientError', (cause: Error, socket: Socket) => refuseConnection(cause, socket));
}

/** Go's answer to what is no proper request: plain, and the end of the connection. The text is the status line's too. */
export function refuse(res: ServerResponse, text: string): void {
  res.sendDate = false;
  res.shouldKeepAlive = false;
  res.useChunkedEncodingByDefault = false; // the end of the connection is that of the text
  const [, status = '400', reason = 'Bad Request'] = /^(\d+) (.*)$/.exec(text) ?? [];
  res.writeHead(Number(status), reason, { 'Content-Type': 'text/plain; charset=utf-8', Connection: 'close' });
  res.end(text);
}

function refuseConnection(cause: Error, socket: Socket): void {
  const code = codeOf(cause);
  const isSilent = code === 'ECONNRESET' || code === 'ERR_HTTP_REQUEST_TIMEOUT';
  // once an answer is under way, nothing of it would be understood
  const isAnswering = '_httpMessage' in socket && Boolean(socket._httpMessage);
  if (isSilent || isAnswering || !socket.writable) {
    socket.destroy();
    return;
  }
  const status = code === 'HPE_HEADER_OVERFLOW' ? 431 : 400;
  const text = `${status} ${STATUS_CODES[status]}`;
  socket.end(
    `HTTP/1.1 ${text}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n${text}`,
    () => socket.destroy(),
  );
}
