import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { beginStream } from './respond.ts';
import { Router } from './router.ts';

/** What gives out the file systems of containers. */
export interface ContainerExports {
  export(ref: string, consume: (tar: Readable) => Promise<void>, o: { signal: AbortSignal }): Promise<void>;
}

/** Routes that carry the files of containers. */
export function containerFileRoutes({ exports }: { exports: ContainerExports }): Router {
  const router = new Router();

  /** 200 and a stream, which a failure cuts short; 404 no such container, 409 it is being removed. */
  router.get('/containers/:id/export', async (ctx, id) => {
    const send = async (tar: Readable) => {
      beginStream(ctx, 'application/octet-stream');
      await pipeline(tar, ctx.res);
    };
    await exports.export(id, send, { signal: ctx.state.signal });
  });

  return router;
}
