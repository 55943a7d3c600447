import type { IncomingMessage } from 'node:http';
import { type Failure, fail } from '../errors.ts';
import { JsonSyntaxError, parseJson } from '../lib/json.ts';
import { parseMediaType } from '../lib/media-type.ts';
import type { ApiContext } from './context.ts';
import { takeoverOf } from './takeover.ts';
import { type Decoder, WireError } from './wire.ts';

/** JSON and forms are held in memory; nothing honest comes near this. */
const MAX_BODY_BYTES = 16 * 1024 * 1024;
/** A client that sends nothing for so long in mid-body is dropped. */
const MAX_SILENCE_MS = 30_000;

/** True if the request says that it has a body, be it an empty one sent in chunks. */
export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

/** The whole body. Throws 413; a client that stalls loses its connection. */
export async function readBody(ctx: Pick<ApiContext, 'req' | 'res'>): Promise<Buffer> {
  const { req, res } = ctx;
  if (Number(req.headers['content-length'] ?? 0) > MAX_BODY_BYTES) throw fail.bodyTooLarge(MAX_BODY_BYTES);
  if (req.headers.expect?.toLowerCase() === '100-continue') res.writeContinue();
  const patience = setTimeout(() => req.socket.destroy(), MAX_SILENCE_MS);
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    const source = takeoverOf(req)?.body() ?? req.iterator({ destroyOnReturn: false });
    for await (const chunk of source as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > MAX_BODY_BYTES) throw fail.bodyTooLarge(MAX_BODY_BYTES);
      chunks.push(chunk);
      patience.refresh();
    }
  } finally {
    clearTimeout(patience);
  }
  return Buffer.concat(chunks);
}

/**
 * The body as it comes, for as long as it takes. What is not read of it is none of the reader's business: ending early
 * leaves the connection as it is, so that an answer can still be given.
 */
export function streamBody({ req, res }: Pick<ApiContext, 'req' | 'res'>): AsyncIterable<Buffer> {
  if (req.headers.expect?.toLowerCase() === '100-continue') res.writeContinue();
  return req.iterator({ destroyOnReturn: false });
}

/**
 * Reads what is left of a body whose use is over, so that a client that still sends comes to read its answer instead of
 * a broken pipe. One that stalls loses its connection.
 */
export async function discardBody({ req }: Pick<ApiContext, 'req'>): Promise<void> {
  const patience = setTimeout(() => req.socket.destroy(), MAX_SILENCE_MS);
  try {
    for await (const _ of req.iterator({ destroyOnReturn: false })) patience.refresh();
  } catch {
    // it has left, and so there is nobody to be answered
  } finally {
    clearTimeout(patience);
  }
}

/**
 * Takes away the body of a request that needs none, where its length is known: dockerode repeats its parameters there,
 * and they must not be taken for what follows.
 */
export async function dropBody(ctx: ApiContext): Promise<void> {
  if (hasBody(ctx.req) && ctx.req.headers['transfer-encoding'] === undefined) await readBody(ctx);
}

/**
 * The JSON body, read as dockerd's common reader does. Throws 400 in its words for a wrong content type, for what is no
 * JSON, for values of a wrong type.
 */
export async function readJson<T>(ctx: ApiContext, shape: Decoder<T>): Promise<T> {
  checkContentType(ctx);
  const { axes } = ctx.state;
  if (axes.has('G070') && !hasBody(ctx.req)) return shape.zero();
  return decode(await readBody(ctx), shape, ctx, (cause) => {
    if (!isEmptyBody(cause))
      return fail.invalidBody(axes.has('G071') ? `invalid JSON: ${cause.message}` : cause.message);
    return fail.invalidBody(`${axes.has('G071') ? 'invalid JSON: ' : ''}got EOF while reading request body`);
  });
}

/** Like {@link readJson}, for container create, which has a reader of its own: daemons of old answer 500. */
export async function readCreateJson<T>(ctx: ApiContext, shape: Decoder<T>): Promise<T> {
  checkContentType(ctx);
  return decode(await readBody(ctx), shape, ctx, createComplaint(ctx));
}

/** Like {@link readCreateJson}; undefined where there is nothing to read. */
export async function readOptionalJson<T>(ctx: ApiContext, shape: Decoder<T>): Promise<T | undefined> {
  checkContentType(ctx);
  const { axes } = ctx.state;
  const body = await readBody(ctx);
  // daemons of one generation could not do without a body
  if (body.length === 0 && (!axes.has('G071') || axes.has('G085'))) return undefined;
  return decode(body, shape, ctx, createComplaint(ctx));
}

function createComplaint({ state: { axes } }: ApiContext): (cause: WireError | JsonSyntaxError) => Failure {
  return (cause) => {
    if (!axes.has('G072')) return fail.invalidBody(cause.message, 500);
    return fail.invalidBody(
      `invalid JSON: ${isEmptyBody(cause) ? 'got EOF while reading request body' : cause.message}`,
    );
  };
}

function decode<T>(
  body: Buffer,
  shape: Decoder<T>,
  { state: { axes } }: ApiContext,
  complain: (cause: WireError | JsonSyntaxError) => Failure,
): T {
  try {
    const { value, hasMore } = parseJson(body.toString('utf8'));
    const decoded = shape.decode(value);
    if (hasMore && axes.has('G073')) throw fail.invalidBody('unexpected content after JSON');
    return decoded;
  } catch (cause) {
    throw cause instanceof WireError || cause instanceof JsonSyntaxError ? complain(cause) : cause;
  }
}

function isEmptyBody(cause: Error): boolean {
  return cause instanceof JsonSyntaxError && cause.message === 'EOF';
}

function checkContentType({ req, state: { axes } }: ApiContext): void {
  const given = req.headers['content-type'] ?? '';
  if (given === 'application/json' || (given === '' && !hasBody(req))) return;
  const parsed = parseMediaType(given);
  if ('type' in parsed && parsed.type === 'application/json') return;
  if (!axes.has('G074')) {
    throw fail.badRequest(`Content-Type specified (${given}) must be 'application/json'`);
  }
  throw fail.badRequest(
    'problem' in parsed
      ? `malformed Content-Type header (${given}): ${parsed.problem}`
      : `unsupported Content-Type header (${given}): must be 'application/json'`,
  );
}
