/**
 * Owners in the order in which they were opened, closed in the reverse order. What `AsyncDisposableStack` is, which
 * needs Node 24; 32-bit ARM runs 20.11. Every owner is closed, whatever the others throw; the first error is thrown.
 */
export class Disposal implements AsyncDisposable {
  readonly #owners: (() => Promise<void> | void)[] = [];

  /** Takes over an owner and gives it back for use. */
  use<T extends AsyncDisposable>(owner: T): T {
    this.#owners.push(async () => owner[Symbol.asyncDispose]());
    return owner;
  }

  /** Has something done at the end. */
  defer(close: () => Promise<void> | void): void {
    this.#owners.push(close);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const errors: unknown[] = [];
    for (let close = this.#owners.pop(); close !== undefined; close = this.#owners.pop()) {
      try {
        await close();
      } catch (cause) {
        errors.push(cause);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}
