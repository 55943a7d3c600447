import type { ContainerConfig } from '../engine/model.ts';
import { readOptionalJson } from './body.ts';
import { createBody } from './container-wire.ts';
import type { ApiContext } from './context.ts';
import { answerJson } from './respond.ts';
import { Router } from './router.ts';

/** What makes images of containers. */
export interface Commits {
  commit(ref: string, request: CommitRequest, o: { signal: AbortSignal }): Promise<string>;
}

export interface CommitRequest {
  repo: string;
  tag: string;
  author: string;
  comment: string;
  isPausing: boolean;
  changes: readonly string[];
  config?: ContainerConfig;
}

export function commitRoutes({ commits }: { commits: Commits }): Router {
  const router = new Router();

  /** 201, 400 for a name or changes that make no sense, 404 no such container, 409 it is being removed. */
  router.post('/commit', async (ctx) => {
    const { query, signal } = ctx.state;
    const id = await commits.commit(query.text('container'), await commitRequest(ctx), { signal });
    answerJson(ctx, { Id: id }, 201);
  });

  return router;
}

/** The body, if there is one, is a container's configuration as create takes it. */
async function commitRequest(ctx: ApiContext): Promise<CommitRequest> {
  const { query } = ctx.state;
  const body = await readOptionalJson(ctx, createBody);
  return {
    repo: query.text('repo'),
    tag: query.text('tag'),
    author: query.text('author'),
    comment: query.text('comment'),
    isPausing: query.text('pause') === '' || query.flag('pause'),
    changes: query.texts('changes'),
    ...(body?.config && { config: body.config }),
  };
}
