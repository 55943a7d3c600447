import type { Progress } from '../engine/progress.ts';
import { fail } from '../errors.ts';
import type { ApiContext } from './context.ts';
import { answerProgress } from './progress.ts';
import { pushAuthOf, type RegistryAuth, registryAuthOf } from './registry-auth.ts';
import { Router } from './router.ts';

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

/** What sends images away. */
export interface Pushes {
  push(request: PushRequest, o: { signal: AbortSignal; progress: Progress }): Promise<void>;
}

export interface PushRequest {
  name: string;
  /** Left out: every tag of the repository. */
  tag?: string;
  auth?: RegistryAuth;
}

/** Routes that bring images here and send them away. */
export function imageTransferRoutes({ pulls, pushes }: { pulls: Pulls; pushes: Pushes }): Router {
  const router = new Router();

  /** 200 and a stream; before its first message 400, 404 or 500 as the registry gives it; 501 for an import. */
  router.post('/images/create', async (ctx) => {
    const request = pullRequest(ctx);
    await answerProgress(ctx, (o) => pulls.pull(request, o));
  });

  /** 200 and a stream, which tells of all that fails; before it 400 for a name that is none, or no credentials. */
  router.post('/images/:name/push', async (ctx, name) => {
    const auth = await pushAuthOf(ctx);
    const tag = ctx.state.query.text('tag');
    await answerProgress(ctx, (o) => pushes.push({ name, ...(tag && { tag }), ...(auth && { auth }) }, o));
  });

  return router;
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
