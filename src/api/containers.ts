import type { ContainerConfig, EndpointSettings, HostConfig } from '../engine/model.ts';
import { fail } from '../errors.ts';
import { type Platform, parsePlatform } from '../lib/platform.ts';
import { readCreateJson, readJson } from './body.ts';
import { type Checkpoints, checkpointOf } from './checkpoints.ts';
import { type CreateDraft, createShapes, updateShapes, warningShapes } from './container-gates.ts';
import { inspectWire, summaryWire } from './container-view.ts';
import { createBody, type UpdateBody, updateBody } from './container-wire.ts';
import type { ApiContext } from './context.ts';
import type { ContainerSummary, ContainerView } from './engine-views.ts';
import { type Filters, filtersOf } from './filters.ts';
import { answerJson } from './respond.ts';
import { Router } from './router.ts';
import { shape } from './shapes.ts';

/** What the routes need of the engine to make and show containers. */
export interface Containers {
  create(request: CreateRequest): Promise<{ id: string; warnings: string[] }>;
  list(o: {
    isAll: boolean;
    limit: number;
    withSize: boolean;
    filters: Filters;
  }): Promise<ContainerSummary[]>;
  inspect(ref: string, o: { withSize: boolean }): Promise<ContainerView>;
  rename(ref: string, name: string): Promise<void>;
  removeLink(name: string): Promise<void>;
  remove(ref: string, o: { force: boolean; withVolumes: boolean }): Promise<void>;
}

/** … to let them live. True where something was done, false where it was so already. */
export interface Lives {
  start(ref: string, o: { signal: AbortSignal; checkpointPath?: string }): Promise<boolean>;
  stop(ref: string, o: StopWish): Promise<boolean>;
  restart(ref: string, o: StopWish): Promise<void>;
  kill(ref: string, signalName: string): Promise<void>;
  pause(ref: string): Promise<void>;
  unpause(ref: string): Promise<void>;
}

export interface StopWish {
  timeoutSeconds?: number;
  signalName?: string;
}

export interface CreateRequest {
  name?: string;
  config: ContainerConfig;
  hostConfig: HostConfig;
  endpoints: Record<string, EndpointSettings>;
  platform?: Platform;
  hasFlatReadOnly?: boolean;
  hasLateEndpoints?: boolean;
}

export interface Updates {
  /** What is 0, empty or null stays as it is. */
  update(ref: string, wish: UpdateBody): Promise<{ warnings: string[] }>;
}

export interface ContainerParts {
  containers: Containers & Lives;
  updates: Updates;
  execs: { idsOf(containerId: string): readonly string[] };
  /** What an incomplete platform is completed with. */
  host: Platform;
}

export function containerRoutes({ containers, updates, execs, host }: ContainerParts): Router {
  const router = new Router();

  /** 200, 400 for filters that make no sense. */
  router.get('/containers/json', async (ctx) => {
    const list = await containers.list(listQuery(ctx));
    const shown = { nowMs: Date.now(), axes: ctx.state.axes };
    answerJson(
      ctx,
      list.map((summary) => summaryWire(summary, shown)),
    );
  });

  /** 201, 400 for a configuration that makes no sense, 404 no such image, 409 name taken. */
  router.post('/containers/create', async (ctx) => {
    const { warnings, ...request } = await createRequest(ctx, host);
    const made = await containers.create(request);
    const answer = shape({ warnings: [...made.warnings, ...warnings] }, warningShapes, ctx.state.axes);
    answerJson(ctx, { Id: made.id, Warnings: answer.warnings }, 201);
  });

  /** 200, 404 no such container. */
  router.get('/containers/:id/json', async (ctx, id) => {
    const view = await containers.inspect(id, { withSize: ctx.state.query.flag('size') });
    answerJson(ctx, inspectWire(view, { axes: ctx.state.axes, execIds: execs.idsOf(view.record.id) }));
  });

  /** 204, 400 or 409 for a name that is none or taken, 404 no such container. */
  router.post('/containers/:id/rename', async (ctx, id) => {
    await containers.rename(id, ctx.state.query.text('name'));
    ctx.status = 204;
  });

  /** 200, 400 for values that make no sense, 404 no such container, 409 for what the container's state forbids. */
  router.post('/containers/:id/update', async (ctx, id) => {
    const wish = shape(await readJson(ctx, updateBody), updateShapes, ctx.state.axes);
    const { warnings } = await updates.update(id, wish);
    answerJson(ctx, { Warnings: warnings.length > 0 ? warnings : null });
  });

  /** 204, 404 no such container, 409 it runs. */
  router.delete('/containers/:id', async (ctx, id) => {
    const { query } = ctx.state;
    if (query.flag('link')) await containers.removeLink(id);
    else await containers.remove(id, { force: query.flag('force'), withVolumes: query.flag('v') });
    ctx.status = 204;
  });

  return router;
}

export function lifeRoutes({
  containers,
  checkpoints,
  isExperimental,
}: {
  containers: Lives;
  checkpoints: Pick<Checkpoints, 'find'>;
  isExperimental: boolean;
}): Router {
  const router = new Router();

  /** 204 started, 304 already running, 400 with a body, 404 no such container, 409 paused. */
  router.post('/containers/:id/start', async (ctx, id) => {
    checkStartBody(ctx);
    const checkpoint = checkpointOf(ctx, isExperimental);
    const isStarted = await containers.start(id, {
      signal: ctx.state.signal,
      ...(checkpoint && { checkpointPath: await checkpoints.find(id, checkpoint) }),
    });
    ctx.status = isStarted ? 204 : 304;
  });

  /** 204 stopped, 304 already so, 404 no such container. */
  router.post('/containers/:id/stop', async (ctx, id) => {
    const isStopped = await containers.stop(id, stopWish(ctx));
    ctx.status = isStopped ? 204 : 304;
  });

  /** 204, 404 no such container. */
  router.post('/containers/:id/restart', async (ctx, id) => {
    await containers.restart(id, stopWish(ctx));
    ctx.status = 204;
  });

  /** 204, 400 no such signal, 404 no such container, 409 not running. */
  router.post('/containers/:id/kill', async (ctx, id) => {
    await containers.kill(id, ctx.state.query.text('signal') || 'KILL');
    ctx.status = 204;
  });

  /** 204, 404 no such container, 409 not running or paused already. */
  router.post('/containers/:id/pause', async (ctx, id) => {
    await containers.pause(id);
    ctx.status = 204;
  });

  /** 204, 404 no such container, 409 not running, 500 not paused. */
  router.post('/containers/:id/unpause', async (ctx, id) => {
    await containers.unpause(id);
    ctx.status = 204;
  });

  return router;
}

function listQuery(ctx: ApiContext) {
  const { query } = ctx.state;
  return {
    filters: filtersOf(ctx),
    isAll: query.flag('all'),
    limit: query.integer('limit') ?? 0,
    withSize: query.flag('size'),
  };
}

async function createRequest(
  ctx: ApiContext,
  host: Platform,
): Promise<CreateRequest & { warnings: string[] }> {
  const { query, axes } = ctx.state;
  const { config, hostConfig, endpoints } = await readCreateJson(ctx, createBody);
  if (config === undefined) throw fail.badRequest('config cannot be empty in order to create a container');
  const draft: CreateDraft = {
    config,
    hostConfig,
    endpoints,
    platform: query.text('platform'),
    warnings: [],
  };
  const { platform, ...request } = shape(draft, createShapes, axes);
  const name = query.text('name');
  return {
    ...request,
    ...(name !== '' && { name }),
    ...(platform !== '' && { platform: parsePlatform(platform, host) }),
  };
}

/** Clients from before 1.22 sent a host configuration with the start. Fewer than 8 bytes hold none. */
function checkStartBody({ req: { headers } }: ApiContext): void {
  if (headers['transfer-encoding'] === undefined && Number(headers['content-length'] ?? 0) <= 7) return;
  throw fail.badRequest(
    'starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24',
  );
}

function stopWish({ state: { query, axes } }: ApiContext): StopWish {
  const timeoutSeconds = query.integer('t');
  const signalName = axes.has('G045') ? query.text('signal') : '';
  return {
    ...(timeoutSeconds !== undefined && { timeoutSeconds }),
    ...(signalName !== '' && { signalName }),
  };
}
