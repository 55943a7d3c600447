import type { ParameterizedContext } from 'koa';
import { messageOf } from '../errors.ts';
import type { Lifetime } from './lifetime.ts';
import { Query } from './query.ts';
import type { Axes } from './versions.ts';

/** What is known of one request. Filled in as it finds its version and its route. */
export class ApiState {
  readonly lifetime: Lifetime;
  /** The ceiling's, until the request's own are known. */
  axes: Axes;
  /** The route by its name in tables and logs, such as `GET /images/:name/json`. */
  route = '';
  /** What stands for `:name` in it. */
  name = '';
  /** The client is from before JSON errors. */
  isTextOnly = false;
  /** Attach: errors are bare text on a connection that is as good as taken over. */
  failsRaw = false;
  /** The query without its `?`, and a form body; not read before somebody asks. */
  search = '';
  form = '';
  /** Logs a failure that is told within an answer that has begun, and words it. Set by the error middleware. */
  tell: (cause: unknown) => { message: string } = (cause) => ({ message: messageOf(cause) });
  #query: Query | undefined;

  constructor(lifetime: Lifetime, axes: Axes) {
    this.lifetime = lifetime;
    this.axes = axes;
  }

  /** The parameters. Throws 400 if they are malformed. */
  get query(): Query {
    this.#query ??= new Query(this.search, this.form);
    return this.#query;
  }

  /** Aborted when the client leaves or the daemon shuts down. */
  get signal(): AbortSignal {
    return this.lifetime.signal;
  }
}

export type ApiContext = ParameterizedContext<ApiState, object>;
