import type { IncomingMessage } from 'node:http';
import type { Middleware } from 'koa';
import { fail } from '../errors.ts';
import { cleanPath, encodePath, percentDecode } from '../lib/url.ts';
import { readBody } from './body.ts';
import type { ApiContext, ApiState } from './context.ts';
import type { Router } from './router.ts';
import { refuse } from './server.ts';
import type { Versions } from './versions.ts';

const versioned = /^\/v([0-9.]+)(\/.*)$/s;

/**
 * Finds what a request is for and in which version, by dockerd's rules and in its order: the path is cleaned, then
 * routed, and only then the version is looked at. What is routed carries the daemon's headers, what is not carries
 * none, and version errors lack the last one.
 */
export function negotiation(o: {
  router: Router;
  versions: Versions;
  serverHeader: string;
  isExperimental: boolean;
}): Middleware<ApiState, object> {
  return async (ctx) => {
    const { req, res, state } = ctx;
    const [target, search] = splitTarget(req.url ?? '/');
    const path = percentDecode(target);
    if (path === undefined) return refuse(res, '400 Bad Request');
    const cleaned = cleanPath(path);
    if (cleaned !== path) return redirect(ctx, encodePath(cleaned), search);

    const [, prefix, rest] = versioned.exec(path) ?? [];
    state.isTextOnly = o.versions.isTextOnly(prefix);
    const found = o.router.find(req.method ?? '', rest ?? path);
    if (found === undefined) throw fail.notFound();
    state.route = found.route.key;
    state.name = found.name;
    res.setHeader('Api-Version', o.versions.ceiling);
    res.setHeader('Ostype', 'linux');
    res.setHeader('Server', o.serverHeader);
    state.axes = o.versions.axesOf(prefix);
    res.setHeader('Docker-Experimental', String(o.isExperimental));
    state.search = search;
    if (isForm(req)) state.form = (await readBody(ctx)).toString('utf8');
    await found.route.handler(ctx, found.name, found.second);
  };
}

/** Path and query of a request target, which may name scheme and host before them (RFC 9112, 3.2.2). */
function splitTarget(target: string): [path: string, search: string] {
  const local = target.startsWith('/') ? target : target.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?]*/i, '');
  const at = local.indexOf('?');
  return at < 0 ? [local, ''] : [local.slice(0, at), local.slice(at + 1)];
}

/** Go's server reads such bodies as parameters, whatever the endpoint expects. */
function isForm({ method, headers }: IncomingMessage): boolean {
  if (method !== 'POST' && method !== 'PUT') return false;
  return (
    headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase() === 'application/x-www-form-urlencoded'
  );
}

function redirect(ctx: ApiContext, path: string, search: string): void {
  ctx.respond = false;
  ctx.res.statusCode = 301;
  ctx.res.setHeader('Location', search === '' ? path : `${path}?${search}`);
  ctx.res.setHeader('Content-Length', 0);
  ctx.res.end();
}
