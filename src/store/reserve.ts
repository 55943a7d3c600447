import { randomBytes } from 'node:crypto';
import { rm, stat, statfs, writeFile } from 'node:fs/promises';

/**
 * Space put by for a full disk: a file that is given up so that LevelDB can open again and a few removals can still be
 * committed. Without it a device that has filled its disk could free nothing, and would not come up after a reboot.
 */
export class Reserve {
  readonly #path: string;
  readonly #dir: string;
  readonly #sizeBytes: number;
  #isHeld = false;

  constructor(o: { dir: string; path: string; sizeBytes: number }) {
    this.#dir = o.dir;
    this.#path = o.path;
    this.#sizeBytes = o.sizeBytes;
  }

  /** Puts the space by if it is not yet, unless the disk is nearly full. Best effort: a failure is no failure. */
  async hold(): Promise<void> {
    if (this.#isHeld) return;
    try {
      const present = await stat(this.#path).catch(() => undefined);
      if (present?.size !== this.#sizeBytes) {
        if (!(await this.#hasRoomFor(8 * this.#sizeBytes))) return;
        // random, because a file system that compresses would set nothing by for zeros
        await writeFile(this.#path, randomBytes(this.#sizeBytes), { mode: 0o600 });
      }
      this.#isHeld = true;
    } catch {
      await rm(this.#path, { force: true }).catch(() => {});
    }
  }

  /** Gives the space up; true if there is now room for what LevelDB writes when it opens. */
  async release(): Promise<boolean> {
    this.#isHeld = false;
    await rm(this.#path, { force: true });
    return this.#hasRoomFor(this.#sizeBytes / 2);
  }

  async #hasRoomFor(sizeBytes: number): Promise<boolean> {
    // bfree, not bavail: what ext4 keeps for root is ours to use
    const { bfree, bsize } = await statfs(this.#dir);
    return bfree * bsize >= sizeBytes;
  }
}
