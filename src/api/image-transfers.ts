import type { Progress } from '../engine/progress.ts';
import { fail, messageOf } from '../errors.ts';
import { parseReference, type Reference } from '../lib/reference.ts';
import { streamBody } from './body.ts';
import type { ApiContext } from './context.ts';
import { answerProgress } from './progress.ts';
import { pushAuthOf, type RegistryAuth, registryAuthOf, registryAuthsOf } from './registry-auth.ts';
import { Router } from './router.ts';

/** That a client may name as base of one pull. */
const MOST_BASES = 32;
/** Whole or cut, and no name. */
const IMAGE_ID = /^[0-9a-f]{1,64}$/;

/** What brings images here. */
export interface Pulls {
  pull(request: PullRequest, o: { signal: AbortSignal; progress: Progress }): Promise<void>;
}

export interface PullRequest {
  fromImage: string;
  tag?: string;
  platform?: string;
  auth?: RegistryAuth;
  delta?: DeltaWishes;
}

/** What a pull says of deltas; see docs/deltas.md. */
export interface DeltaWishes {
  mode?: 'auto' | 'require' | 'off';
  bases?: readonly string[];
  source?: Reference;
  /** Credentials for the registry of the source, by server. */
  auths?: ReadonlyMap<string, RegistryAuth>;
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

/** What makes images of archives of file trees. */
export interface Imports {
  importTree(request: ImportRequest, o: { signal: AbortSignal; progress: Progress }): Promise<unknown>;
}

export interface ImportRequest {
  /** `-` for the body, or a URL. */
  source: string;
  body: AsyncIterable<Buffer>;
  repo: string;
  tag: string;
  message: string;
  changes: readonly string[];
  platform?: string;
}

/** Routes that bring images here and send them away. */
export function imageTransferRoutes(o: { pulls: Pulls; pushes: Pushes; imports: Imports }): Router {
  const { pulls, pushes, imports } = o;
  const router = new Router();

  /** 200 and a stream; before its first message 400, 404 or 500 as the registry, or the file's server, gives it. */
  router.post('/images/create', async (ctx) => {
    const isPull = ctx.state.query.text('fromImage') !== '';
    if (isPull) {
      const request = pullRequest(ctx);
      await answerProgress(ctx, (o) => pulls.pull(request, o));
    } else {
      const request = importRequest(ctx);
      await answerProgress(ctx, (o) => imports.importTree(request, o), { takesBody: true });
    }
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
  const auth = registryAuthOf(req);
  const delta = deltaWishes(req);
  return {
    fromImage,
    ...(tag && { tag }),
    ...(platform && { platform }),
    ...(auth && { auth }),
    ...(delta && { delta }),
  };
}

/** Headers, so that every Docker client can send them. */
function deltaWishes(req: ApiContext['req']): DeltaWishes | undefined {
  const { 'x-delta-mode': mode, 'x-delta-base': base, 'x-delta-source': source } = req.headers;
  if (mode === undefined && base === undefined && source === undefined) return undefined;
  if (mode !== undefined && mode !== 'auto' && mode !== 'require' && mode !== 'off')
    throw fail.badRequest('invalid X-Delta-Mode: it must be auto, require or off');
  const bases = [base ?? []]
    .flat()
    .join(',')
    .split(',')
    .map((name) => name.trim())
    .filter(Boolean);
  for (const name of bases) if (!IMAGE_ID.test(name)) nameIn('X-Delta-Base', name);
  if (bases.length > MOST_BASES) throw fail.badRequest(`X-Delta-Base names more than ${MOST_BASES} images`);
  return {
    ...(mode && { mode }),
    ...(bases.length > 0 && { bases }),
    ...(source !== undefined && { source: nameIn('X-Delta-Source', source), auths: registryAuthsOf(req) }),
  };
}

/** Several headers of one kind are one text with commas, which is no name. */
function nameIn(header: string, text: string | string[]): Reference {
  try {
    return parseReference(String(text).trim());
  } catch (cause) {
    throw fail.badRequest(`invalid ${header}: ${messageOf(cause)}`);
  }
}

function importRequest(ctx: ApiContext): ImportRequest {
  const { query, axes } = ctx.state;
  const platform = axes.has('B132') ? query.text('platform') : '';
  return {
    source: query.text('fromSrc'),
    body: streamBody(ctx),
    repo: query.text('repo'),
    tag: query.text('tag'),
    message: query.text('message'),
    changes: query.texts('changes'),
    ...(platform && { platform }),
  };
}
