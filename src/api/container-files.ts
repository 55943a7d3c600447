import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { beginStream } from './respond.ts';
import { Router } from './router.ts';

/** What gives out the file systems of containers. */
export interface ContainerExports {
  export(ref: string, consume: (tar: Readable) => Promise<void>, o: { signal: AbortSignal }): Promise<void>;
}

/** What tells how containers differ from their images. */
export interface ContainerChanges {
  changes(
    ref: string,
    consume: (changes: AsyncIterable<{ path: string; kind: 0 | 1 | 2 }>) => Promise<void>,
    o: { signal: AbortSignal },
  ): Promise<void>;
}

/** Routes that carry the files of containers. */
export function containerFileRoutes({
  exports,
  containerChanges,
}: {
  exports: ContainerExports;
  containerChanges: ContainerChanges;
}): Router {
  const router = new Router();

  /** 200 and a stream, which a failure cuts short; 404 no such container, 409 it is being removed. */
  router.get('/containers/:id/export', async (ctx, id) => {
    const send = async (tar: Readable) => {
      beginStream(ctx, 'application/octet-stream');
      await pipeline(tar, ctx.res);
    };
    await exports.export(id, send, { signal: ctx.state.signal });
  });

  /** 200, and null where nothing differs; 404 no such container, 409 it is being removed. */
  router.get('/containers/:id/changes', async (ctx, id) => {
    const send = async (changes: AsyncIterable<{ path: string; kind: 0 | 1 | 2 }>) => {
      const text = listText(changes);
      const first = await text.next(); // what fails at once is an error like any other
      beginStream(ctx, 'application/json');
      ctx.res.write(first.value ?? '');
      await pipeline(Readable.from(text, { objectMode: false }), ctx.res);
    };
    await containerChanges.changes(id, send, { signal: ctx.state.signal });
  });

  return router;
}

/** As JSON, piece by piece: there may be any number of them. */
async function* listText(changes: AsyncIterable<{ path: string; kind: 0 | 1 | 2 }>): AsyncGenerator<string> {
  let isEmpty = true;
  for await (const { path, kind } of changes) {
    yield `${isEmpty ? '[' : ','}${JSON.stringify({ Path: path, Kind: kind })}`;
    isEmpty = false;
  }
  yield isEmpty ? 'null\n' : ']\n';
}
