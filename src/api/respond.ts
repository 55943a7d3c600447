import type { ApiContext } from './context.ts';

/** Answers with JSON and a newline. `<`, `>` and `&` stay as they are. */
export function answerJson(ctx: ApiContext, value: unknown, status = 200): void {
  answerText(ctx, `${JSON.stringify(value)}\n`, { status, type: 'application/json' });
}

/** Answers with text that is ready as it is. */
export function answerText(
  ctx: ApiContext,
  text: string,
  { status = 200, type }: { status?: number; type: string },
): void {
  const { res } = ctx;
  // straight to Node: Koa would guess at the type and look at the text again
  ctx.respond = false;
  res.statusCode = status;
  res.setHeader('Content-Type', type);
  res.setHeader('Content-Length', Buffer.byteLength(text));
  res.end(text);
}

/** Answers with a status alone; Koa would put the status' name into the body. */
export function answerEmpty(ctx: ApiContext, status: number): void {
  ctx.respond = false;
  ctx.res.statusCode = status;
  if (status !== 204 && status !== 304) ctx.res.setHeader('Content-Length', 0);
  ctx.res.end();
}

/** Sends the headers of an answer whose body comes in its own time. */
export function beginStream(ctx: ApiContext, type?: string): void {
  ctx.respond = false;
  ctx.res.statusCode = 200;
  if (type !== undefined) ctx.res.setHeader('Content-Type', type);
  ctx.res.flushHeaders();
}
