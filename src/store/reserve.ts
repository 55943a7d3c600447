import { randomFillSync } from 'node:crypto';
import { open, rm, stat, statfs } from 'node:fs/promises';

const PIECE_BYTES = 256 << 10;

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
        await this.#fill();
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

  /** Random, because a file system that compresses would set nothing by for zeros. */
  async #fill(): Promise<void> {
    // in pieces: as one buffer it stayed in the daemon's memory until there was cause for a big collection
    const piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
    await using file = await open(this.#path, 'w', 0o600);
    for (let left = this.#sizeBytes; left > 0; left -= piece.length) {
      await file.writeFile(randomFillSync(piece).subarray(0, left));
    }
  }

  async #hasRoomFor(sizeBytes: number): Promise<boolean> {
    // bfree, not bavail: what ext4 keeps for root is ours to use
    const { bfree, bsize } = await statfs(this.#dir);
    return bfree * bsize >= sizeBytes;
  }
}
