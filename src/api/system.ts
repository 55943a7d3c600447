import type { ApiContext } from './context.ts';
import type { SystemView, VersionView } from './engine-views.ts';
import { answerEmpty, answerJson, answerText } from './respond.ts';
import { Router } from './router.ts';
import { infoWire, versionWire } from './system-wire.ts';

/** What the system's routes need of the engine. */
export interface SystemParts {
  system: {
    info(): Promise<SystemView>;
    version(): Promise<VersionView>;
  };
  /** The daemon's release, as clients are told. */
  release: string;
  isExperimental: boolean;
  ceiling: string;
  floor: string;
}

export function systemRoutes({ system, ...daemon }: SystemParts): Router {
  const router = new Router();

  /** 200 for any path. */
  router.options('/:path', (ctx) => answerEmpty(ctx, 200));

  /** 200. */
  router.get('/_ping', (ctx) => {
    setPingHeaders(ctx);
    answerText(ctx, 'OK', { type: 'text/plain; charset=utf-8' });
  });

  /** 200. */
  router.head('/_ping', (ctx) => {
    setPingHeaders(ctx);
    answerText(ctx, '', { type: 'text/plain; charset=utf-8' });
  });

  /** 200. */
  router.get('/version', async (ctx) => answerJson(ctx, versionWire(await system.version(), daemon)));

  /** 200. */
  router.get('/info', async (ctx) => {
    answerJson(ctx, infoWire(await system.info(), { ...daemon, axes: ctx.state.axes }));
  });

  return router;
}

function setPingHeaders({ res, state: { axes } }: ApiContext): void {
  if (axes.has('G006')) {
    res.setHeader('Cache-Control', 'no-cache, no-store, must-revalidate');
    res.setHeader('Pragma', 'no-cache');
  }
  // the classic builder: there is no BuildKit here, and the CLI must not look for one
  if (axes.has('G067')) res.setHeader('Builder-Version', '1');
  if (axes.has('G068')) res.setHeader('Swarm', 'inactive');
}
