import { type Digest, shortDigest } from '../lib/digest.ts';
import { progressBar } from '../lib/progress-bar.ts';
import type { Progress } from './progress.ts';

/** Between two lines with numbers of one layer. */
const INTERVAL_MS = 100;

/** Tells one layer's way through a push in Docker's words. */
export class LayerPushReport {
  readonly #progress: Progress;
  readonly #id: string;
  #toldAtMs = 0;

  constructor(progress: Progress, diffId: Digest) {
    this.#progress = progress;
    this.#id = shortDigest(diffId);
    this.#say('Preparing');
  }

  waiting(): void {
    this.#say('Waiting');
  }

  exists(): void {
    this.#say('Layer already exists');
  }

  mounted(from: string): void {
    this.#say(`Mounted from ${from}`);
  }

  /** Bytes of the tar so far, before they are packed, of so many. */
  pushing(current: number, total: number): void {
    const nowMs = performance.now();
    if (nowMs - this.#toldAtMs < INTERVAL_MS) return;
    this.#toldAtMs = nowMs;
    this.#say('Pushing', { current, total });
  }

  retrying(seconds: number): void {
    this.#say(`Retrying in ${seconds} second${seconds === 1 ? '' : 's'}`);
  }

  pushed(): void {
    this.#say('Pushed');
  }

  #say(status: string, detail?: { current: number; total: number }): void {
    this.#progress({
      status,
      progressDetail: detail ?? {},
      ...(detail && { progress: progressBar(detail.current, detail.total) }),
      id: this.#id,
    });
  }
}
