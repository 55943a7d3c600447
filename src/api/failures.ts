import { STATUS_CODES } from 'node:http';
import type { Middleware } from 'koa';
import { Failure, messageOf } from '../errors.ts';
import type { Log } from '../lib/log.ts';
import type { ApiContext, ApiState } from './context.ts';
import { wordingOf } from './failure-gates.ts';
import { answerJson, answerText } from './respond.ts';
import { sayGoodbye, takeoverOf } from './takeover.ts';

/**
 * The one place where what was thrown becomes an answer: a {@link Failure} its status and message, anything else is a
 * bug and answers 500. An answer that has begun is cut off instead, so that nobody takes it for whole.
 */
export function answerFailures(log: Log): Middleware<ApiState, object> {
  return async (ctx, next) => {
    ctx.state.tell = (cause) => {
      const telling = tellingOf(ctx, cause);
      report(ctx, cause, telling.status, log);
      return telling;
    };
    try {
      await next();
    } catch (cause) {
      answer(ctx, cause, log);
    }
  };
}

/** Status and text of a failure for this client; an unknown one is a bug, and says what it has to say. */
function tellingOf(ctx: ApiContext, cause: unknown): { status: number; message: string } {
  const { axes, route, name } = ctx.state;
  if (cause instanceof Failure) return wordingOf(cause, axes, route, name);
  return { status: 500, message: messageOf(cause) };
}

function answer(ctx: ApiContext, cause: unknown, log: Log): void {
  const { state, res } = ctx;
  const { status, message } = tellingOf(ctx, cause);
  report(ctx, cause, status, log);
  ctx.respond = false;
  if (res.headersSent || state.lifetime.isOver) {
    res.destroy();
    return;
  }
  if (status === 413) res.setHeader('Connection', 'close'); // the rest of the body is not worth reading
  if (state.failsRaw) answerRaw(ctx, status, message);
  else if (state.isTextOnly) {
    res.setHeader('X-Content-Type-Options', 'nosniff');
    answerText(ctx, `${message}\n`, { status, type: 'text/plain; charset=utf-8' });
  } else answerJson(ctx, { message }, status);
}

/** Attach has taken the connection over before it looks for the container: no headers but its own. */
function answerRaw(ctx: ApiContext, status: number, message: string): void {
  const socket = takeoverOf(ctx.req)?.release(ctx.res);
  if (socket === undefined) return;
  socket.write(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n${message}\r\n`,
  );
  sayGoodbye(socket);
}

function report({ req, state }: ApiContext, cause: unknown, status: number, log: Log): void {
  const facts = { method: req.method, route: state.route, status };
  if (!(cause instanceof Failure)) {
    if (state.lifetime.isOver) log.debug({ ...facts, err: cause }, 'request given up: the client is gone');
    else log.error({ ...facts, err: cause }, 'request failed by a bug');
  } else if (status >= 500) log.warn({ ...facts, code: cause.code, err: cause }, 'request failed');
  else log.debug({ ...facts, code: cause.code, message: cause.message }, 'request refused');
}
