import { fail } from '../errors.ts';
import { readJson } from './body.ts';
import { type Filters, filtersOf } from './filters.ts';
import { answerEmpty, answerJson } from './respond.ts';
import { Router } from './router.ts';
import { type VolumeView, volumeRequest, volumeWire } from './volume-wire.ts';

/** What the routes need of the engine's volumes. */
export interface Volumes {
  list(o: { filters: Filters }): Promise<VolumeView[]>;
  inspect(name: string): Promise<VolumeView>;
  /** Without a name it gets one; one that is there is the answer as it is. */
  create(name: string, wish: VolumeWish): Promise<VolumeView>;
  remove(name: string, o: { force: boolean }): Promise<void>;
}

interface VolumeWish {
  driver: string;
  labels: Record<string, string> | null;
  options: Record<string, string> | null;
}

/** Of the engine's prunes, that of volumes. */
export interface VolumePrunes {
  volumes(o: {
    filters: Filters;
    signal: AbortSignal;
  }): Promise<{ removed: readonly string[]; freedBytes: number }>;
}

/** Routes of `docker volume`. */
export function volumeRoutes({ volumes, prunes }: { volumes: Volumes; prunes: VolumePrunes }): Router {
  const router = new Router();

  /** 200, 400 for filters that make no sense. */
  router.get('/volumes', async (ctx) => {
    const list = await volumes.list({
      filters: filtersOf(ctx, { prefix: 'error reading volume filters: ', oldStatus: 400 }),
    });
    const { axes } = ctx.state;
    answerJson(ctx, { Volumes: list.map((view) => volumeWire(view, axes)), Warnings: null });
  });

  /** 200, 404 no such volume. */
  router.get('/volumes/:name', async (ctx, name) => {
    answerJson(ctx, volumeWire(await volumes.inspect(name), ctx.state.axes));
  });

  /** 201 also for one that is there, 400 for a bad name or bad options, 404 no such driver, 503 for a swarm's. */
  router.post('/volumes/create', async (ctx) => {
    const { axes } = ctx.state;
    const { name, driver, driverOpts, labels, clusterVolumeSpec } = await readJson(ctx, volumeRequest(axes));
    if (clusterVolumeSpec !== null && axes.has('G066')) throw fail.noSwarm();
    const view = await volumes.create(name, { driver, labels, options: driverOpts });
    answerJson(ctx, volumeWire(view, axes), 201);
  });

  /** 503: only a swarm's volumes can be changed. */
  router.put('/volumes/:name', () => {
    throw fail.clusterVolumesOnly();
  });

  /** 204, 404 no such volume, 409 while a container has it. */
  router.delete('/volumes/:name', async (ctx, name) => {
    await volumes.remove(name, { force: ctx.state.query.flag('force') });
    answerEmpty(ctx, 204);
  });

  /** 200, 400 for filters that make no sense, 409 while another prune runs. */
  router.post('/volumes/prune', async (ctx) => {
    const { axes, signal } = ctx.state;
    const filters = filtersOf(ctx);
    const all = filters.get('all') ?? [];
    if (filters.has('all') && !axes.knows('G063')) throw fail.badRequest("invalid filter 'all'");
    if (!axes.has('G063')) filters.set('all', [...new Set([...all, 'true'])]);
    const { removed, freedBytes } = await prunes.volumes({ filters, signal });
    answerJson(ctx, { VolumesDeleted: removed, SpaceReclaimed: freedBytes });
  });

  return router;
}
