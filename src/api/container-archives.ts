import { constants } from 'node:fs';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createDeflateRaw, createGzip } from 'node:zlib';
import { fail } from '../errors.ts';
import { escapedJson } from '../lib/json.ts';
import { formatNanos } from '../lib/time.ts';
import { discardBody, streamBody } from './body.ts';
import type { ApiContext } from './context.ts';
import type { PathFacts } from './engine-views.ts';
import { answerEmpty, beginStream } from './respond.ts';
import { Router } from './router.ts';

/** What copies files into containers and out of them. */
export interface ContainerArchives {
  stat(ref: string, path: string, o: { signal: AbortSignal }): Promise<PathFacts>;
  pack(
    ref: string,
    path: string,
    consume: (packed: { facts: PathFacts; tar: Readable }) => Promise<void>,
    o: { signal: AbortSignal },
  ): Promise<void>;
  unpack(
    ref: string,
    path: string,
    body: AsyncIterable<Buffer>,
    wishes: { keepsKinds: boolean; isUsers: boolean },
    o: { signal: AbortSignal },
  ): Promise<void>;
}

const FACTS_HEADER = 'X-Docker-Container-Path-Stat';

/** The client is most often on the same machine: what it asks for is done, at the least cost. */
const LEVEL = { level: 1 };

export function containerArchiveRoutes({
  containerArchives: archives,
}: {
  containerArchives: ContainerArchives;
}): Router {
  const router = new Router();

  /** 200 with what is there in a header, 400 no path, 404 no such container or file, 409 it is being removed. */
  router.head('/containers/:id/archive', async (ctx, id) => {
    const facts = await archives.stat(id, pathOf(ctx), { signal: ctx.state.signal });
    ctx.respond = false;
    ctx.res.statusCode = 200;
    ctx.res.setHeader(FACTS_HEADER, factsHeader(facts));
    ctx.res.end();
  });

  /** As HEAD, and a stream, which a failure cuts short. */
  router.get('/containers/:id/archive', async (ctx, id) => {
    const send = async ({ facts, tar }: { facts: PathFacts; tar: Readable }) => {
      ctx.res.setHeader(FACTS_HEADER, factsHeader(facts));
      await sendTar(ctx, tar);
    };
    await archives.pack(id, pathOf(ctx), send, { signal: ctx.state.signal });
  });

  /** 200, 400 for what is no archive, no directory or not to be written, 404 and 409 as HEAD, 500 for what cannot be. */
  router.put('/containers/:id/archive', async (ctx, id) => {
    const { query, signal } = ctx.state;
    const wishes = { keepsKinds: query.flag('noOverwriteDirNonDir'), isUsers: query.flag('copyUIDGID') };
    try {
      await archives.unpack(id, pathOf(ctx), streamBody(ctx), wishes, { signal });
    } finally {
      await discardBody(ctx);
    }
    answerEmpty(ctx, 200);
  });

  /** 404, as ever since API 1.24. */
  router.post('/containers/:id/copy', (ctx) => answerEmpty(ctx, 404));

  return router;
}

function pathOf({ state: { query } }: ApiContext): string {
  const path = query.text('path');
  if (path === '') throw fail.badRequest('bad parameter: pathcannot be empty'); // dockerd's own spacing
  return path;
}

async function sendTar(ctx: ApiContext, tar: Readable): Promise<void> {
  const encoding = encodingOf(ctx);
  if (encoding !== undefined) ctx.res.setHeader('Content-Encoding', encoding);
  beginStream(ctx, 'application/x-tar');
  if (encoding === 'gzip') await pipeline(tar, createGzip(LEVEL), ctx.res);
  else if (encoding === 'deflate') await pipeline(tar, createDeflateRaw(LEVEL), ctx.res);
  else await pipeline(tar, ctx.res);
}

/** What the client likes best; of equals the first of none, gzip and deflate. Go's deflate has no zlib header. */
function encodingOf({ req }: ApiContext): 'gzip' | 'deflate' | undefined {
  const wishes = new Map<string, number>();
  for (const wish of String(req.headers['accept-encoding'] ?? '').split(',')) {
    const [name = '', ...parameters] = wish.split(';').map((part) => part.trim().toLowerCase());
    const quality = parameters.find((parameter) => parameter.startsWith('q='));
    if (name !== '') wishes.set(name, quality === undefined ? 1 : Number(quality.slice(2)) || 0);
  }
  let best: 'identity' | 'gzip' | 'deflate' = 'identity';
  let bestQuality = 0;
  for (const name of ['identity', 'gzip', 'deflate'] as const) {
    const quality = wishes.get(name) ?? wishes.get('*') ?? 0;
    if (quality > bestQuality) [best, bestQuality] = [name, quality];
  }
  return best === 'identity' ? undefined : best;
}

function factsHeader({ name, sizeBytes, mode, modifiedNanos, linkTarget }: PathFacts): string {
  const mtime = formatNanos(BigInt(modifiedNanos));
  const json = escapedJson({ name, size: sizeBytes, mode: goMode(mode), mtime, linkTarget });
  return Buffer.from(json).toString('base64');
}

/** Go's os.FileMode: nine permission bits, and bits of its own for the rest. */
function goMode(mode: number): number {
  const type = goTypes.get(mode & constants.S_IFMT) ?? 0;
  const special =
    (mode & 0o4000 ? 2 ** 23 : 0) + (mode & 0o2000 ? 2 ** 22 : 0) + (mode & 0o1000 ? 2 ** 20 : 0);
  return (mode & 0o777) + type + special;
}

const goTypes: ReadonlyMap<number, number> = new Map([
  [constants.S_IFDIR, 2 ** 31],
  [constants.S_IFLNK, 2 ** 27],
  [constants.S_IFBLK, 2 ** 26],
  [constants.S_IFIFO, 2 ** 25],
  [constants.S_IFSOCK, 2 ** 24],
  [constants.S_IFCHR, 2 ** 26 + 2 ** 21],
]);
