import type { Progress } from '../engine/progress.ts';
import type { ApiContext } from './context.ts';
import { answerProgress } from './progress.ts';
import { type RegistryAuth, registryAuthOf, registryAuthsOf } from './registry-auth.ts';
import { Router } from './router.ts';

/** What proves images whole. */
export interface Verifications {
  verify(request: VerificationRequest, o: { signal: AbortSignal; progress: Progress }): Promise<void>;
}

export interface VerificationRequest {
  /** Absent for all images. */
  name?: string;
  isRepairing: boolean;
  auth?: RegistryAuth;
  /** By server. */
  auths: ReadonlyMap<string, RegistryAuth>;
}

/** Routes of our own: see docs/extensions.md. */
export function imageVerificationRoutes({ verifications }: { verifications: Verifications }): Router {
  const router = new Router();
  const answer = (ctx: ApiContext, name?: string) => {
    const auth = registryAuthOf(ctx.req);
    const request = {
      isRepairing: ctx.state.query.flag('repair'),
      auths: registryAuthsOf(ctx.req),
      ...(name !== undefined && { name }),
      ...(auth && { auth }),
    };
    return answerProgress(ctx, (o) => verifications.verify(request, o));
  };

  /** 200 and a stream, also where there is no image at all. */
  router.post('/images/verify', (ctx) => answer(ctx));

  /** 200 and a stream, 404 no such image. */
  router.post('/images/:name/verify', (ctx, name) => answer(ctx, name));

  return router;
}
