import { type Failure, fail, messageOf } from '../errors.ts';

/**
 * Why one try failed, and whether another one may fare better. It is for the loops of this folder only;
 * {@link failureOf} gives the failure that everybody else gets to see.
 */
export class Setback extends Error {
  readonly failure: Failure;
  /** The trouble may pass by itself: the network, or a busy or broken server. */
  readonly isPassing: boolean;
  /** Nothing answers at that address; a person who waits for an answer is better told so at once. */
  readonly isUnreachable: boolean;
  /** The HTTP status, if there was an answer at all. */
  readonly status: number | undefined;
  /** How long the server asked us to wait (`Retry-After`). */
  readonly waitMs: number | undefined;
  /** The same in the registry's own words, with the status that dockerd gives them; the failure may say more. */
  readonly own: Failure;

  constructor(
    failure: Failure,
    o: {
      isPassing?: boolean;
      isUnreachable?: boolean;
      status?: number | undefined;
      waitMs?: number | undefined;
      own?: Failure;
    } = {},
  ) {
    super(failure.message, { cause: failure });
    this.name = 'Setback';
    this.failure = failure;
    this.isPassing = o.isPassing ?? false;
    this.isUnreachable = o.isUnreachable ?? false;
    this.status = o.status;
    this.waitMs = o.waitMs;
    this.own = o.own ?? failure;
  }

  /** The same, with the request that met it in front, as Go's HTTP client words it: `Get "https://…": why`. */
  during(url: URL): Setback {
    const worded = ({ message }: Failure, status: number) =>
      fail.registry(`Get "${url.href}": ${message}`, { status, cause: this.failure });
    const own = worded(this.own, this.own.status);
    return new Setback(worded(this.failure, 500), { ...this, own });
  }
}

/** What leaves this folder: failures and abort reasons as they are, a setback as its failure. */
export function failureOf(cause: unknown): Error {
  if (cause instanceof Setback) return cause.failure;
  return cause instanceof Error ? cause : new Error(messageOf(cause), { cause });
}
