import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Progress } from '../engine/progress.ts';
import { streamBody } from './body.ts';
import type { ApiContext } from './context.ts';
import { answerProgress } from './progress.ts';
import { beginStream } from './respond.ts';
import { Router } from './router.ts';

/** What puts images into files. */
export interface Archives {
  save(names: readonly string[], o: { signal: AbortSignal }): Promise<Readable>;
  load(
    input: AsyncIterable<Buffer>,
    o: { isQuiet: boolean; progress: Progress; signal: AbortSignal },
  ): Promise<void>;
}

/** Routes that carry images in archives. */
export function imageArchiveRoutes({ archives }: { archives: Archives }): Router {
  const router = new Router();

  /** Once the stream has begun, a failure cuts the connection: nobody must take a part for the whole. */
  const answerArchive = async (ctx: ApiContext, names: readonly string[]) => {
    const archive = await archives.save(names, { signal: ctx.state.signal });
    beginStream(ctx, 'application/x-tar');
    await pipeline(archive, ctx.res);
  };

  /** 200 and a stream, 400 for a name that is none, 404 for one that is not here. */
  router.get('/images/get', (ctx) => answerArchive(ctx, ctx.state.query.texts('names')));

  /** 200 and a stream, 400 for a name that is none, 404 for one that is not here. */
  router.get('/images/:name/get', (ctx, name) => answerArchive(ctx, [name]));

  /** 200 and a stream, in which every failure is told. */
  router.post('/images/load', async (ctx) => {
    const { query } = ctx.state;
    const isQuiet = !query.has('quiet') || query.flag('quiet');
    const input = streamBody(ctx);
    const load = (o: { progress: Progress; signal: AbortSignal }) => archives.load(input, { ...o, isQuiet });
    await answerProgress(ctx, load, { takesBody: true, isAlways200: true });
  });

  return router;
}
