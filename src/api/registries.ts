import { fail, messageOf } from '../errors.ts';
import { JsonSyntaxError, parseJson } from '../lib/json.ts';
import { readBody } from './body.ts';
import type { ApiContext } from './context.ts';
import type { InspectionView, SearchResultView } from './engine-views.ts';
import { type Filters, filtersOf } from './filters.ts';
import { type RegistryAuth, readRegistryAuth, registryAuthOf } from './registry-auth.ts';
import { answerJson } from './respond.ts';
import { Router } from './router.ts';
import { WireError } from './wire.ts';

/** What can be asked of registries without bringing an image here. */
export interface Registries {
  /** Resolves to an identity token, or an empty text. */
  login(auth: RegistryAuth, o: { signal: AbortSignal }): Promise<string>;
  inspect(name: string, o: { auth?: RegistryAuth; signal: AbortSignal }): Promise<InspectionView>;
  search(
    request: {
      term: string;
      limit?: number | undefined;
      filters: Filters;
      auth?: RegistryAuth | undefined;
      knowsAutomated: boolean;
    },
    o: { signal: AbortSignal },
  ): Promise<readonly SearchResultView[]>;
}

/** Routes that ask registries something. */
export function registryRoutes({ registries }: { registries: Registries }): Router {
  const router = new Router();

  /** 200, 400 for an address that is none, 401 where a token server refuses, 500 for whatever else went wrong. */
  router.post('/auth', async (ctx) => {
    const { signal } = ctx.state;
    const identityToken = await registries.login(await readLogin(ctx), { signal });
    answerJson(ctx, { IdentityToken: identityToken, Status: 'Login Succeeded' });
  });

  /** 200, 400 for a name that is none; 401, 403, 404 and others as the registry's refusal says; else 500. */
  router.get('/distribution/:name/json', async (ctx, name) => {
    const auth = registryAuthOf(ctx.req);
    const { signal } = ctx.state;
    answerJson(ctx, inspectionWire(await registries.inspect(name, { ...(auth && { auth }), signal })));
  });

  /** 200, 400 for a limit, filters or a term that make no sense, 500 where the index does not answer as it should. */
  router.get('/images/search', async (ctx) => {
    const { signal, query, axes } = ctx.state;
    const request = {
      term: query.text('term'),
      limit: searchLimit(ctx),
      filters: filtersOf(ctx),
      auth: registryAuthOf(ctx.req),
      knowsAutomated: !axes.has('G122'),
    };
    const found = await registries.search(request, { signal });
    answerJson(ctx, found.map(searchResultWire));
  });

  return router;
}

/** As dockerd reads it: whatever is called its type, what follows it is ignored, and all that is wrong is a 500. */
async function readLogin(ctx: ApiContext): Promise<RegistryAuth> {
  const body = await readBody(ctx);
  try {
    return readRegistryAuth(parseJson(body.toString('utf8')).value);
  } catch (cause) {
    if (!(cause instanceof WireError || cause instanceof JsonSyntaxError)) throw cause;
    throw fail.invalidBody(cause.message, 500);
  }
}

function searchLimit({ state: { query, axes } }: ApiContext): number | undefined {
  if (!axes.has('G077')) return query.integer('limit');
  try {
    return query.integer('limit');
  } catch (cause) {
    throw fail.badRequest(`invalid limit specified: ${messageOf(cause)}`);
  }
}

function inspectionWire({ mediaType, digest, sizeBytes, platforms }: InspectionView): object {
  return {
    Descriptor: { mediaType, digest, size: sizeBytes },
    Platforms:
      platforms.length === 0
        ? null
        : platforms.map(({ architecture, os, osVersion, osFeatures, variant }) => ({
            architecture,
            os,
            ...(osVersion && { 'os.version': osVersion }),
            ...(osFeatures.length > 0 && { 'os.features': osFeatures }),
            ...(variant && { variant }),
          })),
  };
}

function searchResultWire({ name, description, stars, isOfficial, isAutomated }: SearchResultView): object {
  return { star_count: stars, is_official: isOfficial, name, is_automated: isAutomated, description };
}
