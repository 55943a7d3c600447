import { fail } from '../errors.ts';
import type { ApiContext } from './context.ts';
import type { Generations, HistoryEntry, ImageSummary, ImageView } from './engine-views.ts';
import { type Filters, filtersOf } from './filters.ts';
import { generationsWire, historyWire, imageSummaryWire, imageWire } from './image-wire.ts';
import { answerEmpty, answerJson } from './respond.ts';
import { Router } from './router.ts';

/** What the routes need of the engine's images. */
export interface Images {
  list(o: { isAll: boolean; filters: Filters; withSharedSize: boolean }): Promise<ImageSummary[]>;
  inspect(name: string): Promise<ImageView>;
  history(name: string): Promise<HistoryEntry[]>;
  tag(name: string, target: { repo: string; tag: string }): Promise<void>;
  /** What was done, in order. */
  remove(name: string, o: { force: boolean; isPruning: boolean }): Promise<Removal[]>;
  /** What was done, in order, and the bytes of the layers that went. */
  prune(o: {
    filters: Filters;
    signal: AbortSignal;
  }): Promise<{ removals: readonly Removal[]; freedBytes: number }>;
  /** Lets a tag stand again for what it stood for before. */
  rollBack(
    name: string,
    o: { to?: string },
  ): Promise<{ name: string; from: string; to: string; replacedAt: string }>;
  generations(): Promise<Generations[]>;
}

type Removal = { untagged: string } | { deleted: string };

/** Routes that look at the images that are here, name and remove them. */
export function imageRoutes({ images }: { images: Images }): Router {
  const router = new Router();

  /** 200, 400 for filters that make no sense. */
  router.get('/images/json', async (ctx) => {
    const query = listQuery(ctx);
    const list = await images.list(query);
    answerJson(
      ctx,
      list.map((view) => imageSummaryWire(view, { ...query, axes: ctx.state.axes })),
    );
  });

  /** 200, 404 no such image. */
  router.get('/images/:name/json', async (ctx, name) => {
    answerJson(ctx, imageWire(await images.inspect(name), ctx.state.axes));
  });

  /** 200, 404 no such image. */
  router.get('/images/:name/history', async (ctx, name) => {
    const entries = await images.history(name);
    answerJson(ctx, entries.map(historyWire));
  });

  /** 201, 400 for a name that is none, 404 no such image. */
  router.post('/images/:name/tag', async (ctx, name) => {
    const { query, axes } = ctx.state;
    if (!axes.has('G087')) await images.inspect(name); // daemons of old look for the image first
    await images.tag(name, { repo: query.text('repo'), tag: query.text('tag') });
    answerEmpty(ctx, 201);
  });

  /** 200, 400 without a name, 404 no such image, 409 while it is in use. */
  router.delete('/images/:name', async (ctx, name) => {
    const { query } = ctx.state;
    if (name.trim() === '') throw fail.badRequest('image name cannot be blank');
    const steps = await images.remove(name, {
      force: query.flag('force'),
      isPruning: !query.flag('noprune'),
    });
    answerJson(ctx, steps.map(removalWire));
  });

  /** 200, 400 for filters that make no sense, 409 while another prune runs. */
  router.post('/images/prune', async (ctx) => {
    const { removals, freedBytes } = await images.prune({
      filters: filtersOf(ctx),
      signal: ctx.state.signal,
    });
    const deleted = removals.length === 0 ? null : removals.map(removalWire);
    answerJson(ctx, { ImagesDeleted: deleted, SpaceReclaimed: freedBytes });
  });

  return router;
}

/** Routes that dockerd does not have: docs/extensions.md. */
export function generationRoutes({ images }: { images: Images }): Router {
  const router = new Router();

  /** 200. */
  router.get('/images/generations', async (ctx) => {
    answerJson(ctx, (await images.generations()).map(generationsWire));
  });

  /** 200, 400 for what is no tag, 404 no such image, 409 nothing to go back to. */
  router.post('/images/:name/rollback', async (ctx, name) => {
    const to = ctx.state.query.text('to');
    const done = await images.rollBack(name, { ...(to && { to }) });
    answerJson(ctx, { Name: done.name, From: done.from, To: done.to, ReplacedAt: done.replacedAt });
  });

  return router;
}

function removalWire(step: Removal): { Untagged: string } | { Deleted: string } {
  return 'untagged' in step ? { Untagged: step.untagged } : { Deleted: step.deleted };
}

function listQuery(ctx: ApiContext): { isAll: boolean; filters: Filters; withSharedSize: boolean } {
  const { query, axes } = ctx.state;
  const filters = filtersOf(ctx);
  if (filters.has('until') && !axes.has('G105')) throw fail.badRequest("invalid filter 'until'");
  const pattern = query.text('filter');
  if (pattern !== '' && !axes.has('G029')) {
    filters.set('reference', [...(filters.get('reference') ?? []), pattern]);
  }
  const withSharedSize = axes.has('G057') && query.flag('shared-size');
  return { isAll: query.flag('all'), filters, withSharedSize };
}
