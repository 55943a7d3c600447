import KoaRouter from '@koa/router';
import type { ApiContext } from './context.ts';

/** What answers a route; `name` is what stands in the path for `:name`, decoded, and may hold slashes; `second` for another. */
export type Handler = (ctx: ApiContext, name: string, second: string) => Promise<void> | void;

export type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'DELETE' | 'OPTIONS';

/** A route as it was written down; `key` is its name in tables and logs, such as `GET /images/:name/json`. */
export interface Route {
  readonly key: string;
  readonly method: Method;
  readonly path: string;
  readonly handler: Handler;
}

interface Found {
  readonly route: Route;
  readonly name: string;
  readonly second: string;
}

/**
 * Koa's router, asked by Docker's rules: a name may hold slashes (`library/debian:12`) and is matched after `%2F` is
 * decoded, a path without names wins over one with, then the first that fits, and GET does not answer HEAD. It only
 * finds: dockerd routes a request before it looks at the version, and that comes before the handler.
 */
export class Router {
  readonly #koa = new KoaRouter();
  readonly #routes = new Map<string, Route>();

  get(path: string, handler: Handler): void {
    this.#write('GET', path, handler);
  }

  head(path: string, handler: Handler): void {
    this.#write('HEAD', path, handler);
  }

  post(path: string, handler: Handler): void {
    this.#write('POST', path, handler);
  }

  put(path: string, handler: Handler): void {
    this.#write('PUT', path, handler);
  }

  delete(path: string, handler: Handler): void {
    this.#write('DELETE', path, handler);
  }

  options(path: string, handler: Handler): void {
    this.#write('OPTIONS', path, handler);
  }

  /** Takes a route in, behind those that are here. */
  add(route: Route): void {
    this.#routes.set(route.key, route);
    this.#koa.register(patternOf(route.path), [route.method], () => {}, {
      name: route.key,
      pathAsRegExp: true,
    });
  }

  routes(): Iterable<Route> {
    return this.#routes.values();
  }

  /** The route for a decoded path without its version, and the names in it. */
  find(method: string, path: string): Found | undefined {
    let found: Found | undefined;
    for (const layer of this.#koa.match(path, method).pathAndMethod) {
      const route = this.#routes.get(layer.name ?? '');
      if (route === undefined || route.method !== method) continue;
      const [name, second = ''] = layer.captures(path);
      if (name === undefined) return { route, name: '', second };
      found ??= { route, name, second };
    }
    return found;
  }

  #write(method: Method, path: string, handler: Handler): void {
    this.add({ key: `${method} ${path}`, method, path, handler });
  }
}

/** `:name` stands for anything at all; the rest for itself. */
function patternOf(path: string): RegExp {
  const parts = path.split(/:\w+/).map((text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('(.*)')}$`, 's');
}
