import { fail } from '../errors.ts';
import type { ApiContext } from './context.ts';
import type { HistoryEntry, ImageSummary, ImageView } from './engine-views.ts';
import { type Filters, filtersOf } from './filters.ts';
import { historyWire, imageSummaryWire, imageWire } from './image-wire.ts';
import { answerEmpty, answerJson } from './respond.ts';
import { Router } from './router.ts';

/** What the routes need of the engine's images. */
export interface Images {
  list(o: { isAll: boolean; filters: Filters; withSharedSize: boolean }): Promise<ImageSummary[]>;
  inspect(name: string): Promise<ImageView>;
  history(name: string): Promise<HistoryEntry[]>;
  tag(name: string, target: { repo: string; tag: string }): Promise<void>;
  /** What was done, in order. */
  remove(
    name: string,
    o: { force: boolean; isPruning: boolean },
  ): Promise<({ untagged: string } | { deleted: string })[]>;
}

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
    answerJson(
      ctx,
      steps.map((step) => ('untagged' in step ? { Untagged: step.untagged } : { Deleted: step.deleted })),
    );
  });

  return router;
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
