import type { NetworkRequest } from '../engine/network-checks.ts';
import { fail } from '../errors.ts';
import { notBoolean, parseBool } from '../lib/go-numbers.ts';
import { readJson } from './body.ts';
import { endpointSettings } from './container-wire.ts';
import type { ApiContext } from './context.ts';
import type { NetworkView } from './engine-views.ts';
import { type Filters, filtersOf } from './filters.ts';
import { type ConnectDraft, connectShapes, networkShapes } from './network-gates.ts';
import { connectBody, createBody, disconnectBody, networkDraft, networkWire } from './network-wire.ts';
import { answerEmpty, answerJson } from './respond.ts';
import { Router } from './router.ts';
import { shape } from './shapes.ts';

/** What the routes need of the engine to make and show networks. */
export interface Networks {
  create(request: NetworkRequest): Promise<{ id: string; warning: string }>;
  list(o: { filters: Filters; withAttachments: boolean }): NetworkView[];
  inspect(term: string, o: { scope: string }): NetworkView;
  remove(term: string): Promise<void>;
  /** Names of those that it removed. */
  prune(o: { filters: Filters; signal: AbortSignal }): Promise<string[]>;
}

/** … and to put containers on them. */
export interface Connections {
  connect(term: string, wish: ConnectDraft): Promise<void>;
  disconnect(term: string, o: { container: string; force: boolean }): Promise<void>;
}

export interface NetworkParts {
  networks: Networks;
  connections: Connections;
}

export function networkRoutes({ networks, connections }: NetworkParts): Router {
  const router = new Router();

  /** 200, 400 for filters that make no sense, 500 for an unknown type. */
  const list = (ctx: ApiContext) => {
    const { axes } = ctx.state;
    const filters = filtersOf(ctx);
    if (filters.has('dangling') && !axes.has('G016')) throw fail.badRequest("invalid filter 'dangling'");
    const views = networks.list({ filters, withAttachments: !axes.has('containersInLists') });
    answerJson(
      ctx,
      views.map((view) => networkWire(view, axes)),
    );
  };
  router.get('/networks', list);
  router.get('/networks/', list);

  /** 200, 400 for a term that fits several, 404 no such network. */
  router.get('/networks/:id', (ctx, id) => {
    const { query, axes } = ctx.state;
    checkVerbose(query.text('verbose'));
    answerJson(ctx, networkWire(networks.inspect(id, { scope: query.text('scope') }), axes));
  });

  /** 201, 400 for what makes no sense, 403 for what cannot be, 404 no such driver, 409 name taken. */
  router.post('/networks/create', async (ctx) => {
    const draft = networkDraft(await readJson(ctx, createBody));
    const { request } = shape(draft, networkShapes, ctx.state.axes);
    const { id, warning } = await networks.create(request);
    answerJson(ctx, { Id: id, Warning: warning }, 201);
  });

  /** 200, 400 for what a network does not give, 403 already connected, 404 no such container or network. */
  router.post('/networks/:id/connect', async (ctx, id) => {
    const { container, endpoint } = await readJson(ctx, connectBody);
    const draft: ConnectDraft = { container, endpoint: endpoint ?? endpointSettings.zero() };
    await connections.connect(id, shape(draft, connectShapes, ctx.state.axes));
    answerEmpty(ctx, 200);
  });

  /** 200, 400 for the host's network, 404 no such container or network, 500 not connected. */
  router.post('/networks/:id/disconnect', async (ctx, id) => {
    await connections.disconnect(id, await readJson(ctx, disconnectBody));
    answerEmpty(ctx, 200);
  });

  /** 204, 400 for a term that fits several, 403 in use or always there, 404 no such network. */
  router.delete('/networks/:id', async (ctx, id) => {
    await networks.remove(id);
    ctx.status = 204;
  });

  /** 200, 400 for filters that make no sense, 409 while another prune runs. */
  router.post('/networks/prune', async (ctx) => {
    const removed = await networks.prune({ filters: filtersOf(ctx), signal: ctx.state.signal });
    answerJson(ctx, { NetworksDeleted: removed.length === 0 ? null : removed });
  });

  return router;
}

/** There are no services to be verbose about, but what is no truth value is refused as Go does. */
function checkVerbose(text: string): void {
  if (text !== '' && parseBool(text) === undefined)
    throw fail.badRequest(`invalid value for verbose: ${text}: ${notBoolean(text)}`);
}
