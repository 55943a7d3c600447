import type { Server, ServerResponse } from 'node:http';
import Koa from 'koa';
import { platform } from '../host/facts.ts';
import type { Log } from '../lib/log.ts';
import type { Platform } from '../lib/platform.ts';
import { type Checkpoints, checkpointRoutes } from './checkpoints.ts';
import { type Commits, commitRoutes } from './commits.ts';
import { type ContainerArchives, containerArchiveRoutes } from './container-archives.ts';
import { type ContainerChanges, type ContainerExports, containerFileRoutes } from './container-files.ts';
import { type ContainerIo, containerIoRoutes } from './container-io.ts';
import { containerStatsRoutes, type StatsParts } from './container-stats.ts';
import { type ContainerParts, containerRoutes, lifeRoutes } from './containers.ts';
import { ApiState } from './context.ts';
import { type DeltaImages, deltaImageRoutes } from './delta-images.ts';
import { type DiskUsage, diskUsageRoutes } from './disk-usage.ts';
import { type Events, eventRoutes } from './events.ts';
import { type Execs, execRoutes } from './execs.ts';
import { answerFailures } from './failures.ts';
import { lostRoutes, routeGates } from './gates.ts';
import { type Archives, imageArchiveRoutes } from './image-archives.ts';
import { type Imports, imageTransferRoutes, type Pulls, type Pushes } from './image-transfers.ts';
import { imageVerificationRoutes, type Verifications } from './image-verification.ts';
import { generationRoutes, type Images, imageRoutes } from './images.ts';
import { Lifetime, Lifetimes } from './lifetime.ts';
import { negotiation } from './negotiation.ts';
import { type Connections, type Networks, networkRoutes } from './networks.ts';
import { type Prunes, pruneRoutes } from './prunes.ts';
import { type Registries, registryRoutes } from './registries.ts';
import { Router } from './router.ts';
import { serveOn } from './server.ts';
import { type SystemParts, systemRoutes } from './system.ts';
import { type EngineRequest, takeoverOf } from './takeover.ts';
import { type Axes, Versions } from './versions.ts';
import { type VolumePrunes, type Volumes, volumeRoutes } from './volumes.ts';

/** The engine's parts that answer requests, by what they do. */
export interface EngineParts {
  containers: ContainerParts['containers'];
  checkpoints: Checkpoints;
  updates: ContainerParts['updates'];
  stats: StatsParts['stats'];
  processLists: StatsParts['processLists'];
  io: ContainerIo;
  execs: Execs & ContainerParts['execs'];
  images: Images;
  pulls: Pulls;
  imports: Imports;
  deltaImages: DeltaImages;
  commits: Commits;
  exports: ContainerExports;
  containerArchives: ContainerArchives;
  containerChanges: ContainerChanges;
  archives: Archives;
  pushes: Pushes;
  registries: Registries;
  verifications: Verifications;
  volumes: Volumes;
  prunes: Prunes & VolumePrunes;
  networks: Networks;
  connections: Connections;
  usage: DiskUsage;
  events: Events;
  system: SystemParts['system'];
}

export interface AppOptions {
  engine: EngineParts;
  /** The newest API version that is spoken, `1.39` to `1.45`, and the oldest. */
  ceiling: string;
  floor: string;
  /** The daemon's release, as clients are told. */
  release: string;
  /** Offers what dockerd hides behind this mode: checkpoints. */
  isExperimental?: boolean;
  /** What an incomplete platform in a request is completed with. */
  host?: Platform;
  log: Log;
}

/** The Docker Engine API over an engine. Serves any number of sockets and owns none. */
export interface App {
  /** Lets a server answer, and gives it back. It must have been made with `serverOptions`, of http or https. */
  attach(server: Server<typeof EngineRequest>): Server<typeof EngineRequest>;
  /** For a shutdown: ends streams and waits, then gives what is short the time to finish. */
  drain(timeoutMs: number): Promise<void>;
}

export function createApp({ engine, host = platform(), log, isExperimental = false, ...o }: AppOptions): App {
  const { ceiling, floor, release } = o;
  const versions = new Versions({ ceiling, floor });
  const newest = versions.axesOf(undefined);
  const lifetimes = new Lifetimes();
  const router = routerOf(
    [
      systemRoutes({ system: engine.system, release, isExperimental, ceiling, floor }),
      eventRoutes(engine.events),
      checkpointRoutes({ ...engine, isExperimental }), // before DELETE /containers/:id, whose name may be anything
      containerRoutes({ ...engine, host }),
      lifeRoutes({ ...engine, isExperimental }),
      containerStatsRoutes(engine),
      containerIoRoutes(engine.io),
      containerFileRoutes(engine),
      containerArchiveRoutes(engine),
      commitRoutes(engine),
      execRoutes(engine.execs),
      imageRoutes(engine),
      generationRoutes(engine),
      volumeRoutes(engine),
      networkRoutes(engine),
      pruneRoutes(engine.prunes),
      diskUsageRoutes(engine.usage),
      imageTransferRoutes(engine),
      deltaImageRoutes(engine),
      imageArchiveRoutes(engine),
      registryRoutes(engine),
      imageVerificationRoutes(engine),
    ],
    newest,
  );
  const app = new Koa<ApiState, object>();
  app.on('error', (cause: unknown) => log.debug({ err: cause }, 'connection broke'));
  app.use(async (ctx, next) => {
    const isTakeover = takeoverOf(ctx.req) !== undefined;
    const lifetime = new Lifetime(ctx.req, ctx.res, { isTakeover });
    ctx.state = new ApiState(lifetime, newest);
    await lifetimes.during(lifetime, next);
  });
  app.use(answerFailures(log));
  app.use(negotiation({ router, versions, serverHeader: `Docker/${release} (linux)`, isExperimental }));
  const answer = app.callback();
  const serve = (req: EngineRequest, res: ServerResponse) => void answer(req, res);
  return {
    attach: (server) => {
      serveOn(server, serve);
      return server;
    },
    drain: (timeoutMs) => lifetimes.drain(timeoutMs),
  };
}

/** One router of all nouns' routes, as far as a daemon of this generation has them. */
function routerOf(nouns: readonly Router[], daemon: Axes): Router {
  const router = new Router();
  for (const noun of nouns) {
    for (const route of noun.routes()) {
      const [gate, end] = [routeGates.get(route.key), lostRoutes.get(route.key)];
      if (end !== undefined && daemon.has(end)) continue;
      if (gate === undefined || daemon.has(gate)) router.add(route);
    }
  }
  return router;
}
