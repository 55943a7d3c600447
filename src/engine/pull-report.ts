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

/** Tells how far a delta is, as the way of the layers that it makes. */
export interface DeltaReport {
  /** Bytes of the delta so far. */
  downloading(bytes: number): void;
  /** So many bytes of it were fetched; layers that are not `made` are still to come, by another way. */
  ended(fetchedBytes: number, made: ReadonlySet<Digest>): void;
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
        // one that a delta made cost nothing of its own
        if (this.#bytes.has(digest)) this.#bytes.set(digest, { come: sizeBytes, size: sizeBytes });
        say('Verifying Checksum');
        say('Download complete');
        say('Extracting', { current: sizeBytes, total: sizeBytes });
        say('Pull complete');
        this.#sayTotal(Number.POSITIVE_INFINITY);
      },
    };
  }

  /**
   * The report on a delta that is to make these layers. Each layer counts as a part of its bytes, one after the other as
   * they stand in it, so that lines of layers add up to what is fetched. In the total the delta counts for them.
   */
  delta(
    { digest, size }: { digest: Digest; size: number },
    layers: readonly { digest: Digest; diffId: Digest; size: number }[],
  ): DeltaReport {
    const parts = partsOf(size, layers);
    for (const layer of layers) this.#bytes.delete(layer.digest);
    this.#bytes.set(digest, { come: 0, size });
    let toldAtMs = 0;
    return {
      downloading: (bytes) => {
        this.#bytes.set(digest, { come: Math.min(bytes, size), size });
        const nowMs = performance.now();
        if (nowMs - toldAtMs < INTERVAL_MS && bytes < size) return;
        toldAtMs = nowMs;
        for (const part of parts) {
          const current = Math.min(Math.max(0, bytes - part.start), part.total);
          if (current === part.told) continue;
          part.told = current;
          this.#say(part.id, 'Downloading', { current, total: part.total });
        }
        this.#sayTotal(nowMs);
      },
      ended: (fetchedBytes, made) => {
        this.#bytes.set(digest, { come: fetchedBytes, size: fetchedBytes });
        for (const layer of layers)
          if (!made.has(layer.diffId)) this.#bytes.set(layer.digest, { come: 0, size: layer.size });
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

/** A delta's bytes, shared out among its layers as their sizes are to each other. */
function partsOf(
  size: number,
  layers: readonly { digest: Digest; size: number }[],
): { id: string; start: number; total: number; told: number }[] {
  const fullBytes = layers.reduce((sum, layer) => sum + layer.size, 0);
  let [before, start] = [0, 0];
  return layers.map((layer) => {
    before += layer.size;
    const end = Math.round((size * before) / Math.max(1, fullBytes));
    const part = { id: shortDigest(layer.digest), start, total: end - start, told: 0 };
    start = end;
    return part;
  });
}
