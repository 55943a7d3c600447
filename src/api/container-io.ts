import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fail, messageOf } from '../errors.ts';
import { frame, STDERR, STDOUT, SYSTEM_ERROR } from '../lib/frames.ts';
import { parseUnixNanos } from '../lib/go-numbers.ts';
import { formatNanos } from '../lib/time.ts';
import { dropBody } from './body.ts';
import type { ApiContext } from './context.ts';
import type { LogLine } from './engine-views.ts';
import { answerEmpty, answerJson, beginStream } from './respond.ts';
import { Router } from './router.ts';
import { type AttachSession, serveSession, streamType } from './session.ts';

/** What the routes need of the engine to hear containers and to speak to them. */
export interface ContainerIo {
  attach(ref: string, o: AttachWish): Promise<AttachSession>;
  logs(ref: string, o: LogWish): Promise<ContainerLog>;
  resize(ref: string, size: { rows: number; columns: number }): Promise<void>;
  /** Found, or 404; then the ending in its own time. */
  wait(
    ref: string,
    condition: WaitCondition,
    o: { signal: AbortSignal },
  ): Promise<{ exited: Promise<{ exitCode: number; error?: string }> }>;
}

export interface ContainerLog {
  isTty: boolean;
  /** What `details` shows of each line. */
  attributes: ReadonlyMap<string, string>;
  lines: AsyncIterable<LogLine>;
}

export interface AttachWish {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  logs: boolean;
  stream: boolean;
  detachKeys?: string;
}

/** Times in nanoseconds since 1970. */
export interface LogWish {
  stdout: boolean;
  stderr: boolean;
  follow: boolean;
  since?: bigint;
  until?: bigint;
  /** Lines from the end; absent means all. */
  tail?: number;
  signal: AbortSignal;
}

const conditions = ['not-running', 'next-exit', 'removed'] as const;
export type WaitCondition = (typeof conditions)[number];

export function containerIoRoutes(containers: ContainerIo): Router {
  const router = new Router();

  /** 101 or 200 and a stream of bytes; 400 bad detach keys, 404 no such container, 409 paused, all as bare text. */
  router.post('/containers/:id/attach', async (ctx, id) => {
    const wish = attachWish(ctx);
    await dropBody(ctx);
    ctx.state.failsRaw = true;
    const session = await containers.attach(id, wish);
    await serveSession(ctx, session, { tells: ctx.state.axes.has('G041'), withDaemonHeaders: false });
  });

  /** 101 and a websocket; 400 not a websocket's handshake, or bad detach keys; 404 no such container, 409 paused. */
  router.get('/containers/:id/attach/ws', async (ctx, id) => {
    const { axes } = ctx.state;
    const wish = attachWish(ctx);
    const all = { stdin: true, stdout: true, stderr: true };
    const session = await containers.attach(id, axes.has('G044') ? wish : { ...wish, ...all });
    const { serveWebsocket } = await import('./websocket.ts'); // few clients have a use for it
    await serveWebsocket(ctx, session, { isText: !axes.has('B128') });
  });

  /** 200 and a stream, 400 without a choice of streams, 404 no such container, 500 for times that are none. */
  router.get('/containers/:id/logs', async (ctx, id) => {
    const wish = logWish(ctx);
    await answerLog(ctx, await containers.logs(id, wish));
  });

  /** 200, 400 without two numbers, 404 no such container, 409 not running. */
  router.post('/containers/:id/resize', async (ctx, id) => {
    await containers.resize(id, sizeOf(ctx));
    answerEmpty(ctx, 200);
  });

  /** 200 at once and the ending later, 400 for an unknown condition, 404 no such container. */
  router.post('/containers/:id/wait', async (ctx, id) => {
    const { axes, signal } = ctx.state;
    const condition = waitCondition(ctx);
    const { exited } = await containers.wait(id, condition, { signal });
    // clients wait for the headers before they start the container
    if (axes.has('B130')) beginStream(ctx, 'application/json');
    answerEnding(ctx, condition, await exited);
  });

  return router;
}

/** The wanted size of a terminal: `h` rows and `w` columns. Throws 400. */
export function sizeOf({ state: { query } }: ApiContext): { rows: number; columns: number } {
  const rows = query.requiredInteger('h');
  return { rows, columns: query.requiredInteger('w') };
}

function attachWish({ state: { query } }: ApiContext): AttachWish {
  const detachKeys = query.text('detachKeys');
  return {
    stdin: query.flag('stdin'),
    stdout: query.flag('stdout'),
    stderr: query.flag('stderr'),
    logs: query.flag('logs'),
    stream: query.flag('stream'),
    ...(detachKeys !== '' && { detachKeys }),
  };
}

function logWish({ state: { query, signal } }: ApiContext): LogWish {
  const [stdout, stderr] = [query.flag('stdout'), query.flag('stderr')];
  if (!stdout && !stderr) throw fail.badRequest('Bad parameters: you must choose at least one stream');
  const [since, until, tail] = [query.text('since'), query.text('until'), query.text('tail')];
  return {
    stdout,
    stderr,
    follow: query.flag('follow'),
    ...(since !== '' && { since: parseUnixNanos(since) }),
    ...(until !== '' && until !== '0' && { until: parseUnixNanos(until) }),
    // whatever is no number means everything
    ...(/^\+?\d+$/.test(tail) && { tail: Number(tail) }),
    signal,
  };
}

async function answerLog(ctx: ApiContext, { isTty, attributes, lines }: ContainerLog): Promise<void> {
  const { query, axes } = ctx.state;
  const type = streamType({ isTty, tells: axes.has('G040') });
  beginStream(ctx, axes.knows('G040') ? type : undefined);
  const details = query.flag('details') ? `${detailsOf(attributes)} ` : '';
  const form = { withTime: query.flag('timestamps'), details, isTty };
  await pipeline(Readable.from(logBytes(lines, form)), ctx.res);
}

/** The log on the wire, one frame per line. Trouble in the middle is told in the stream, as dockerd does. */
async function* logBytes(
  lines: AsyncIterable<LogLine>,
  { withTime, details, isTty }: { withTime: boolean; details: string; isTty: boolean },
): AsyncGenerator<Buffer> {
  try {
    for await (const { stream, timeNanos, data } of lines) {
      const prefix = `${withTime ? `${fixedTime(timeNanos)} ` : ''}${details}`;
      const line = prefix === '' ? data : Buffer.concat([Buffer.from(prefix), data]);
      yield isTty ? line : frame(stream === 2 ? STDERR : STDOUT, line);
    }
  } catch (cause) {
    const text = Buffer.from(`Error grabbing logs: ${messageOf(cause)}\n`);
    yield isTty ? text : frame(SYSTEM_ERROR, text);
  }
}

/** dockerd: sorted, and escaped as in a query; the blank behind them stays where there are none. */
function detailsOf(attributes: ReadonlyMap<string, string>): string {
  const escaped = (text: string) =>
    encodeURIComponent(Buffer.from(text).toString()) // lone surrogates have no UTF-8
      .replace(/[!'()*]/g, (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`)
      .replaceAll('%20', '+');
  const sorted = [...attributes].sort(([a], [b]) => (a < b ? -1 : 1));
  return sorted.map(([name, value]) => `${escaped(name)}=${escaped(value)}`).join(',');
}

/** RFC 3339 with nine decimals always, so that columns align. */
function fixedTime(nanos: bigint): string {
  const [seconds = '', fraction = ''] = formatNanos(nanos).replace('Z', '').split('.');
  return `${seconds}.${fraction.padEnd(9, '0')}Z`;
}

function waitCondition({ state: { query, axes } }: ApiContext): WaitCondition {
  const text = axes.has('B130') ? query.text('condition') : '';
  const known = conditions.find((condition) => condition === text);
  if (known !== undefined) return known;
  if (text !== '' && axes.has('G055')) throw fail.badRequest(`invalid condition: ${JSON.stringify(text)}`);
  return 'not-running';
}

function answerEnding(
  ctx: ApiContext,
  condition: WaitCondition,
  { exitCode, error }: { exitCode: number; error?: string },
): void {
  const { axes } = ctx.state;
  const failure = error === undefined ? undefined : { Message: error };
  const wire = {
    ...(failure !== undefined ? { Error: failure } : !axes.has('G056') && { Error: null }),
    StatusCode: exitCode,
  };
  // the only way in which old clients were told that a removal failed
  const isSilent = condition === 'removed' && failure !== undefined && !axes.has('B134');
  if (ctx.res.headersSent) ctx.res.end(isSilent ? undefined : `${JSON.stringify(wire)}\n`);
  else answerJson(ctx, wire);
}
