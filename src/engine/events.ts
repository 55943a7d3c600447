import { fail } from '../errors.ts';
import { withResolvers } from '../lib/promises.ts';
import { nowNanos } from '../lib/time.ts';
import { type Filters, hasLabels, passes } from './filters.ts';

/** Something that happened to an object of the engine; what `GET /events` tells. */
export interface EngineEvent {
  type: 'container' | 'image' | 'network' | 'volume' | 'daemon' | 'builder';
  action: string;
  actor: { id: string; attributes: Record<string, string> };
  /** Nanoseconds since 1970, rising from event to event. */
  timeNanos: bigint;
  scope: 'local';
}

/** Events that a late subscriber can still be given with `since`. As many as dockerd keeps. */
const KEPT = 256;
/** A subscriber that lags by this many events is cut off, so that a client that does not read cannot fill the memory. */
const BACKLOG = 4096;

interface Subscriber {
  deliver(event: EngineEvent): void;
}

/** The engine's event bus: the last 256 events and whoever listens. Nothing of it is kept over a restart. */
export class Events {
  readonly #kept: EngineEvent[] = [];
  readonly #subscribers = new Set<Subscriber>();

  /** Tells everyone at once; never throws and never waits. */
  emit(type: EngineEvent['type'], action: string, id: string, attributes: Record<string, string> = {}): void {
    const event: EngineEvent = {
      type,
      action,
      actor: { id, attributes },
      timeNanos: nowNanos(),
      scope: 'local',
    };
    this.#kept.push(event);
    if (this.#kept.length > KEPT) this.#kept.shift();
    for (const subscriber of this.#subscribers) subscriber.deliver(event);
  }

  get subscriberCount(): number {
    return this.#subscribers.size;
  }

  /**
   * Kept events from `since` on, then live ones until `until` or the signal. Times in nanoseconds since 1970.
   * Without `since` only what happens from now on. Ends cleanly on abort; throws for one that is cut off, so that it
   * cannot take a part for the whole.
   */
  async *subscribe(o: {
    since?: bigint;
    until?: bigint;
    filters: Filters;
    signal: AbortSignal;
  }): AsyncGenerator<EngineEvent, void, void> {
    const queue: EngineEvent[] = [];
    let wake = () => {};
    let isOver = o.signal.aborted;
    let isCutOff = false;
    const finish = () => {
      isOver = true;
      wake();
    };
    const subscriber: Subscriber = {
      deliver: (event) => {
        if (!matches(event, o.filters)) return;
        if (queue.push(event) <= BACKLOG) return wake();
        this.#subscribers.delete(subscriber);
        queue.length = 0;
        isCutOff = true;
        finish();
      },
    };
    // subscribed before the kept ones are read, in the same tick: no event falls between
    this.#subscribers.add(subscriber);
    const { since } = o;
    if (since !== undefined) {
      queue.push(...this.#kept.filter((event) => event.timeNanos >= since && matches(event, o.filters)));
    }
    const timer = o.until === undefined ? undefined : setTimeout(finish, millisUntil(o.until));
    o.signal.addEventListener('abort', finish, { once: true });
    try {
      for (;;) {
        for (let event = queue.shift(); event !== undefined; event = queue.shift()) {
          if (o.until !== undefined && event.timeNanos > o.until) return;
          yield event;
        }
        if (isCutOff) throw fail.host(`a client that does not read its events was cut off after ${BACKLOG}`);
        if (isOver) return;
        const { promise, resolve } = withResolvers<void>();
        wake = resolve;
        await promise;
      }
    } finally {
      this.#subscribers.delete(subscriber);
      clearTimeout(timer);
      o.signal.removeEventListener('abort', finish);
    }
  }
}

function millisUntil(untilNanos: bigint): number {
  const ms = Number((untilNanos - nowNanos()) / 1_000_000n);
  return Math.min(Math.max(ms, 0), 2 ** 31 - 1);
}

function matches(event: EngineEvent, filters: Filters): boolean {
  const { id, attributes } = event.actor;
  const names = (kind: EngineEvent['type']) => (wanted: string) =>
    event.type === kind && (id.startsWith(wanted) || attributes['name'] === wanted);
  return (
    passes(filters, 'type', (wanted) => event.type === wanted) &&
    passes(filters, 'event', (wanted) => event.action === wanted || event.action.startsWith(`${wanted}:`)) &&
    passes(filters, 'scope', (wanted) => event.scope === wanted) &&
    passes(filters, 'container', names('container')) &&
    passes(filters, 'network', names('network')) &&
    passes(filters, 'volume', names('volume')) &&
    passes(filters, 'daemon', names('daemon')) &&
    passes(filters, 'image', (wanted) => isOfImage(event, wanted)) &&
    hasLabels(filters, attributes)
  );
}

/** An image event by ID or name, a container event by the image it is made of; with or without the tag. */
function isOfImage({ type, actor }: EngineEvent, wanted: string): boolean {
  if (type === 'image' && actor.id === wanted) return true;
  const name = type === 'image' ? (actor.attributes['name'] ?? actor.id) : (actor.attributes['image'] ?? '');
  return name === wanted || name.replace(/:[^:/]+$/, '') === wanted;
}
