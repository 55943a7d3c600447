import type { Digest } from '../lib/digest.ts';
import { newId } from '../lib/ids.ts';
import type { Locks } from '../lib/locks.ts';
import type { LeaseRecord } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import { type Change, recordsOf, type Table } from '../store/tables.ts';

/**
 * Leases: what keeps layers that no image names yet. Each has a term, after which it is void; one whose work goes on in
 * this process lives whatever the clock says.
 */
export class LayerLeases {
  readonly #store: Pick<Store, 'commit'>;
  readonly table: Table<LeaseRecord>;
  /** Held while layers are collected: between "is it there?" and "it is leased", nobody may. */
  readonly #locks: Locks;
  readonly #leaseMs: number;
  readonly #held = new Set<string>();

  constructor(o: { store: Store; locks: Locks; leaseMs: number }) {
    this.#store = o.store;
    this.table = o.store.table('leases');
    this.#locks = o.locks;
    this.#leaseMs = o.leaseMs;
  }

  /** IDs of those whose work goes on. */
  get held(): ReadonlySet<string> {
    return this.#held;
  }

  async all(): Promise<LeaseRecord[]> {
    return recordsOf(this.table);
  }

  /** Keeps these layers, present and future, until it ends or expires. */
  async grant(
    diffIds: readonly Digest[],
    why: string,
    o: Pick<LeaseRecord, 'endsWithDaemon'>,
  ): Promise<LeaseRecord> {
    const expiresAt = new Date(Date.now() + this.#leaseMs).toISOString();
    const lease: LeaseRecord = { id: newId().slice(0, 16), expiresAt, diffIds: [...diffIds], why, ...o };
    await using _lock = await this.#locks.hold('collect');
    this.#held.add(lease.id); // before anyone can read it and take it for a dead one's
    try {
      await this.#store.commit([this.table.put(lease.id, lease)]);
    } catch (cause) {
      this.release(lease);
      throw cause;
    }
    return lease;
  }

  /** Lets a lease keep one layer more, be it here already or about to come. */
  async extend(lease: LeaseRecord, diffId: Digest): Promise<void> {
    await using _lock = await this.#locks.hold('collect');
    lease.diffIds.push(diffId);
    await this.#store.commit([this.table.put(lease.id, lease)]);
  }

  /** The work under a lease is over, for good or ill: from here on only its term keeps it. */
  release({ id }: LeaseRecord): void {
    this.#held.delete(id);
  }

  /** The changes that end it, and with it those of pulls that died over the same layers: what they waited for is done. */
  async endsOf(lease: LeaseRecord): Promise<Change[]> {
    const covered = new Set<string>(lease.diffIds);
    const isDone = ({ id, diffIds }: LeaseRecord) =>
      id === lease.id || (!this.#held.has(id) && diffIds.every((diffId) => covered.has(diffId)));
    return this.endsWhere(isDone);
  }

  /** The changes that end some. */
  async endsWhere(isOver: (lease: LeaseRecord) => boolean): Promise<Change[]> {
    return (await this.all()).filter(isOver).map(({ id }) => this.table.remove(id));
  }
}
