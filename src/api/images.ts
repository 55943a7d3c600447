import type { Progress } from '../engine/progress.ts';
import { fail } from '../errors.ts';
import type { ApiContext } from './context.ts';
import type { HistoryEntry, ImageSummary, ImageView } from './engine-views.ts';
import { type Filters, filtersOf } from './filters.ts';
import { historyWire, imageSummaryWire, imageWire } from './image-wire.ts';
import { answerProgress } from './progress.ts';
import { type RegistryAuth, registryAuthOf } from './registry-auth.ts';
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

/** What brings images here. */
export interface Pulls {
  pull(request: PullRequest, o: { signal: AbortSignal; progress: Progress }): Promise<void>;
}

export interface PullRequest {
  fromImage: string;
  tag?: string;
  platform?: string;
  auth?: RegistryAuth;
}

export function imageRoutes({ images, pulls }: { images: Images; pulls: Pulls }): Router {
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

  /** 200 and a stream; before its first message 400, 404 or 500 as the registry gives it; 501 for an import. */
  router.post('/images/create', async (ctx) => {
    const request = pullRequest(ctx);
    await answerProgress(ctx, (o) => pulls.pull(request, o));
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

/** What to pull. Clients may repeat it in a body, which nobody reads. */
function pullRequest({ req, state: { query, axes } }: ApiContext): PullRequest {
  // `docker pull -a` of old sends a colon without a tag
  const fromImage = query.text('fromImage').replace(/:$/, '');
  const [tag, platform] = [query.text('tag'), axes.has('B132') ? query.text('platform') : ''];
  if (fromImage === '') {
    if (query.text('fromSrc') !== '') {
      throw fail.notImplemented('importing an image from a tar archive (fromSrc) is not supported');
    }
    throw fail.registry('Get "http:": http: no Host in request URL');
  }
  const auth = registryAuthOf(req);
  return { fromImage, ...(tag && { tag }), ...(platform && { platform }), ...(auth && { auth }) };
}
