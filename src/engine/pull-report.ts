import { type Digest, shortDigest } from '../lib/digest.ts';
import { progressBar } from '../lib/progress-bar.ts';
import type { Progress } from './progress.ts';

/** Between two lines of one layer, so that a fast pull does not become a flood of JSON. */
const INTERVAL_MS = 100;

/** Tells one layer's way through a pull in Docker's words. */
export interface LayerReport {
  exists(): void;
  waiting(): void;
  /** Compressed bytes so far. */
  downloading(bytes: number): void;
  /** The connection broke: so many seconds until the next try. */
  retrying(seconds: number): void;
  done(): void;
}

/** The name under which balena-style supervisors look for how far a pull is; they read nothing else. */
const TOTAL = 'Total';

/** Tells a pull's way in Docker's words. */
export class PullReport {
  readonly #progress: Progress;
  readonly #tellsTotal: boolean;
  /** Compressed bytes that have come, and that are to come, by layer. */
  readonly #bytes = new Map<Digest, { come: number; size: number }>();
  #toldTotalAtMs = 0;

  /** With `tellsTotal`, lines for the pull as a whole stand between those of its layers. */
  constructor(progress: Progress, { tellsTotal }: { tellsTotal: boolean }) {
    this.#progress = progress;
    this.#tellsTotal = tellsTotal;
  }

  /** The report on one layer; `sizeBytes` is its compressed size. */
  layer(digest: Digest, sizeBytes: number): LayerReport {
    const id = shortDigest(digest);
    let toldAtMs = 0;
    const say = (status: string, detail?: { current: number; total: number }) =>
      this.#say(id, status, detail);
    return {
      exists: () => say('Already exists'),
      waiting: () => {
        this.#bytes.set(digest, { come: 0, size: sizeBytes });
        say('Pulling fs layer');
      },
      downloading: (bytes) => {
        this.#bytes.set(digest, { come: bytes, size: sizeBytes });
        const nowMs = performance.now();
        if (nowMs - toldAtMs < INTERVAL_MS) return;
        toldAtMs = nowMs;
        say('Downloading', { current: bytes, total: sizeBytes });
        this.#sayTotal(nowMs);
      },
      retrying: (seconds) => say(`Retrying in ${seconds} second${seconds === 1 ? '' : 's'}`),
      // a layer is unpacked while it comes in: by the time the last byte is here, so is the tree
      done: () => {
        this.#bytes.set(digest, { come: sizeBytes, size: sizeBytes });
        say('Verifying Checksum');
        say('Download complete');
        say('Extracting', { current: sizeBytes, total: sizeBytes });
        say('Pull complete');
        this.#sayTotal(Number.POSITIVE_INFINITY);
      },
    };
  }

  #sayTotal(nowMs: number): void {
    if (!this.#tellsTotal || nowMs - this.#toldTotalAtMs < INTERVAL_MS) return;
    this.#toldTotalAtMs = Math.min(nowMs, performance.now());
    let [current, total] = [0, 0];
    for (const { come, size } of this.#bytes.values()) {
      current += come;
      total += size;
    }
    this.#say(TOTAL, 'Downloading', { current, total });
  }

  #say(id: string, status: string, detail?: { current: number; total: number }): void {
    this.#progress({
      status,
      progressDetail: detail ?? {},
      ...(detail && { progress: progressBar(detail.current, detail.total) }),
      id,
    });
  }
}
