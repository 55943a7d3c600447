/** Who has which volume: containers, running or not, and those that are being made and have no record yet. */
export class VolumeUsers {
  readonly #records: {
    all(): readonly { id: string; mounts: readonly { name?: string }[] }[];
  };
  /** By container, the names of its volumes. */
  readonly #claims = new Map<string, Set<string>>();

  constructor(records: { all(): readonly { id: string; mounts: readonly { name?: string }[] }[] }) {
    this.#records = records;
  }

  /** IDs of all containers that have a volume. */
  of(name: string): string[] {
    const made = this.#records
      .all()
      .filter(({ mounts }) => mounts.some((mount) => mount.name === name))
      .map(({ id }) => id);
    const inMaking = [...this.#claims].filter(([, names]) => names.has(name)).map(([id]) => id);
    return [...new Set([...made, ...inMaking])];
  }

  /** A container that is being made has a volume, until {@link release}. */
  claim(id: string, name: string): void {
    const names = this.#claims.get(id) ?? new Set();
    names.add(name);
    this.#claims.set(id, names);
  }

  /** The container has a record now, or does not come to be. */
  release(id: string): void {
    this.#claims.delete(id);
  }
}
