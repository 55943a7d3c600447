import { fail } from '../errors.ts';
import { readJson } from './body.ts';
import type { ApiContext } from './context.ts';
import { answerJson } from './respond.ts';
import { Router } from './router.ts';
import { struct, text, trueOrFalse } from './wire.ts';

/** Where a checkpoint is; an empty directory is the container's own. */
export interface CheckpointPlace {
  name: string;
  directory: string;
}

/** What keeps checkpoints of containers. */
export interface Checkpoints {
  create(ref: string, o: CheckpointPlace & { exits: boolean }): Promise<void>;
  list(ref: string, directory: string): Promise<string[]>;
  remove(ref: string, place: CheckpointPlace): Promise<void>;
  /** Throws 500 if there is none. */
  find(ref: string, place: CheckpointPlace): Promise<string>;
}

const createOptions = struct<CheckpointPlace & { exits: boolean }>(
  'CheckpointCreateOptions',
  'types.CheckpointCreateOptions',
  { name: ['CheckpointID', text], directory: ['CheckpointDir', text], exits: ['Exit', trueOrFalse] },
);

/** Routes that a daemon has in experimental mode only; otherwise they all answer 501. */
export function checkpointRoutes({
  checkpoints,
  isExperimental,
}: {
  checkpoints: Checkpoints;
  isExperimental: boolean;
}): Router {
  const router = new Router();
  const directoryOf = (ctx: ApiContext) => ctx.state.query.text('dir');
  const check = () => {
    if (!isExperimental) throw fail.experimental();
  };

  /** 200, 404 no such container, 501. */
  router.get('/containers/:id/checkpoints', async (ctx, id) => {
    check();
    const names = await checkpoints.list(id, directoryOf(ctx));
    answerJson(
      ctx,
      names.map((Name) => ({ Name })),
    );
  });

  /** 201, 404 no such container, 500 it cannot be done, 501. */
  router.post('/containers/:id/checkpoints', async (ctx, id) => {
    check();
    await checkpoints.create(id, await readJson(ctx, createOptions));
    ctx.status = 201;
  });

  /** 204, 404 no such container, 500 no such checkpoint, 501. */
  router.delete('/containers/:id/checkpoints/:checkpoint', async (ctx, id, name) => {
    check();
    await checkpoints.remove(id, { name, directory: directoryOf(ctx) });
    ctx.status = 204;
  });

  return router;
}

/** The checkpoint that a start is to go on from; undefined for one from the beginning. Throws 400 where there are none. */
export function checkpointOf(ctx: ApiContext, isExperimental: boolean): CheckpointPlace | undefined {
  const { query } = ctx.state;
  const name = query.text('checkpoint');
  if (name === '') return undefined;
  if (!isExperimental) throw fail.badRequest('checkpoint is only supported in experimental mode');
  return { name, directory: query.text('checkpoint-dir') };
}
