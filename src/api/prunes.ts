import { type Filters, filtersOf } from './filters.ts';
import { answerJson } from './respond.ts';
import { Router } from './router.ts';

/** What the routes need of the engine. */
export interface Prunes {
  containers(o: { filters: Filters; signal: AbortSignal }): Promise<Pruned>;
}

interface Pruned {
  removed: readonly string[];
  freedBytes: number;
}

/** Routes that `docker system prune` calls one after the other. Images and volumes have theirs beside their other routes. */
export function pruneRoutes(prunes: Prunes): Router {
  const router = new Router();

  /** 200, 400 for filters that make no sense, 409 while another prune runs. */
  router.post('/containers/prune', async (ctx) => {
    const { removed, freedBytes } = await prunes.containers({
      filters: filtersOf(ctx, { oldStatus: 400 }),
      signal: ctx.state.signal,
    });
    answerJson(ctx, { ContainersDeleted: orNull(removed), SpaceReclaimed: freedBytes });
  });

  /** 200. The classic builder has no cache but images. */
  router.post('/build/prune', (ctx) => answerJson(ctx, { CachesDeleted: null, SpaceReclaimed: 0 }));

  return router;
}

function orNull(list: readonly string[]): readonly string[] | null {
  return list.length === 0 ? null : list;
}
