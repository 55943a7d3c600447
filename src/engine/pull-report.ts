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
  done(): void;
}

/** The report on one layer; `sizeBytes` is its compressed size. */
export function layerReport(digest: Digest, sizeBytes: number, progress: Progress): LayerReport {
  const id = shortDigest(digest);
  let toldAtMs = 0;
  const say = (status: string, detail?: { current: number; total: number }) =>
    progress({
      status,
      progressDetail: detail ?? {},
      ...(detail && { progress: progressBar(detail.current, detail.total) }),
      id,
    });
  return {
    exists: () => say('Already exists'),
    waiting: () => say('Pulling fs layer'),
    downloading: (bytes) => {
      const nowMs = performance.now();
      if (nowMs - toldAtMs < INTERVAL_MS) return;
      toldAtMs = nowMs;
      say('Downloading', { current: bytes, total: sizeBytes });
    },
    // a layer is unpacked while it comes in: by the time the last byte is here, so is the tree
    done: () => {
      say('Verifying Checksum');
      say('Download complete');
      say('Extracting', { current: sizeBytes, total: sizeBytes });
      say('Pull complete');
    },
  };
}
