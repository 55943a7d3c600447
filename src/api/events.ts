import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fail } from '../errors.ts';
import { parseUnixNanos } from '../lib/go-numbers.ts';
import { escapedJson } from '../lib/json.ts';
import type { ApiContext } from './context.ts';
import type { EngineEvent } from './engine-views.ts';
import { type Filters, filtersOf } from './filters.ts';
import { beginStream } from './respond.ts';
import { Router } from './router.ts';

/** What the route needs of the engine. */
export interface Events {
  /** Kept events from `since` on, then live ones until `until` or the signal. Nanoseconds since 1970. */
  subscribe(o: {
    since?: bigint;
    until?: bigint;
    filters: Filters;
    signal: AbortSignal;
  }): AsyncIterable<EngineEvent>;
}

export function eventRoutes(events: Events): Router {
  const router = new Router();

  /** 200 and a stream, 400 for times or filters that make no sense, 500 for times that are none. */
  router.get('/events', async (ctx) => {
    const wanted = { ...spanOf(ctx), filters: filtersOf(ctx), signal: ctx.state.signal };
    beginStream(ctx, 'application/json');
    const knowsPrunes = ctx.state.axes.has('G031');
    await pipeline(Readable.from(lines(events.subscribe(wanted), knowsPrunes)), ctx.res);
  });

  return router;
}

function spanOf({ state: { query } }: ApiContext): { since?: bigint; until?: bigint } {
  const [from, to] = [query.text('since'), query.text('until')];
  const since = from === '' ? undefined : parseUnixNanos(from);
  const until = to === '' ? undefined : parseUnixNanos(to);
  if (until === undefined) return since === undefined ? {} : { since };
  if (until < (since ?? 0n)) {
    throw fail.badRequest(`\`since\` time (${from}) cannot be after \`until\` time (${to})`);
  }
  // an end alone asks for everything that is kept; one in the past for nothing else
  return { since: since ?? 0n, until };
}

async function* lines(events: AsyncIterable<EngineEvent>, knowsPrunes: boolean): AsyncGenerator<string> {
  for await (const event of events) if (knowsPrunes || event.action !== 'prune') yield eventLine(event);
}

/** An event on the wire. Containers and images have the fields of old as well, which supervisors still read. */
export function eventLine({ type, action, actor, timeNanos, scope }: EngineEvent): string {
  const isOfOld = type === 'container' || type === 'image';
  const from = type === 'container' ? actor.attributes['image'] : undefined;
  const wire = {
    ...(isOfOld && { status: action, id: actor.id }),
    ...(from !== undefined && { from }),
    Type: type,
    Action: action,
    Actor: { ID: actor.id, Attributes: actor.attributes },
    scope,
    time: Number(timeNanos / 1_000_000_000n),
  };
  // JSON.stringify knows no integers of 64 bits
  return `${escapedJson(wire).slice(0, -1)},"timeNano":${timeNanos}}\n`;
}
