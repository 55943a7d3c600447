import type { ApiContext } from './context.ts';

/** What answers a route; `name` is what stands in the path for `:name`, decoded, and may hold slashes. */
export type Handler = (ctx: ApiContext, name: string) => Promise<void> | void;

export type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'DELETE' | 'OPTIONS';

/** A route as it was written down; `key` is its name in tables and logs, such as `GET /images/:name/json`. */
export interface Route {
  readonly key: string;
  readonly method: Method;
  readonly handler: Handler;
  readonly prefix: string;
  /** What follows the name; undefined where the path has none and `prefix` is the whole. */
  readonly suffix?: string;
}

/**
 * Finds the route of a request by Docker's rules, which are not those of Koa's router: a name may hold slashes
 * (`library/debian:12`), is matched after `%2F` is decoded, HEAD is no GET, and the first route that fits wins.
 */
export class Router {
  readonly #whole = new Map<string, Route>();
  readonly #named = new Map<string, Route[]>();

  get(path: string, handler: Handler): void {
    this.#add('GET', path, handler);
  }

  head(path: string, handler: Handler): void {
    this.#add('HEAD', path, handler);
  }

  post(path: string, handler: Handler): void {
    this.#add('POST', path, handler);
  }

  put(path: string, handler: Handler): void {
    this.#add('PUT', path, handler);
  }

  delete(path: string, handler: Handler): void {
    this.#add('DELETE', path, handler);
  }

  options(path: string, handler: Handler): void {
    this.#add('OPTIONS', path, handler);
  }

  /** Takes a route in, behind those that are here. */
  add(route: Route): void {
    if (route.suffix === undefined) this.#whole.set(route.key, route);
    else this.#named.set(route.method, [...(this.#named.get(route.method) ?? []), route]);
  }

  *routes(): Iterable<Route> {
    yield* this.#whole.values();
    for (const routes of this.#named.values()) yield* routes;
  }

  /** The route for a decoded path without its version, and the name in it. */
  find(method: string, path: string): { route: Route; name: string } | undefined {
    const whole = this.#whole.get(`${method} ${path}`);
    if (whole !== undefined) return { route: whole, name: '' };
    for (const route of this.#named.get(method) ?? []) {
      const { prefix, suffix = '' } = route;
      if (path.length < prefix.length + suffix.length) continue;
      if (!path.startsWith(prefix) || !path.endsWith(suffix)) continue;
      return { route, name: path.slice(prefix.length, path.length - suffix.length) };
    }
    return undefined;
  }

  #add(method: Method, path: string, handler: Handler): void {
    const [prefix = '', suffix] = path.split(/:\w+/);
    this.add({ key: `${method} ${path}`, method, handler, prefix, ...(suffix !== undefined && { suffix }) });
  }
}
