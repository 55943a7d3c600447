import type { Progress } from '../engine/progress.ts';
import { answerProgress } from './progress.ts';
import { Router } from './router.ts';

/** What makes delta images. */
export interface DeltaImages {
  make(request: DeltaImageRequest, o: { signal: AbortSignal; progress: Progress }): Promise<unknown>;
}

export interface DeltaImageRequest {
  source: string;
  target: string;
  /** Empty for none. */
  tag: string;
}

/** A route of balenaEngine's, in every version of the API as there. */
export function deltaImageRoutes({ deltaImages }: { deltaImages: DeltaImages }): Router {
  const router = new Router();

  /** 200 and a stream; before its first message 400 for a name that is none, 404 no such image. */
  router.post('/images/delta', async (ctx) => {
    const { query } = ctx.state;
    const request = { source: query.text('src'), target: query.text('dest'), tag: query.text('t') };
    await answerProgress(ctx, (o) => deltaImages.make(request, o));
  });

  return router;
}
