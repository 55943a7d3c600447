import { readText } from './bundle.ts';
import type { LogSink } from './running-logs.ts';

/**
 * Where a run logs that an older daemon began, which left no note of it: its monitor was told. That daemon had two files
 * of a log; as much is kept, the next one that conmon begins not counted.
 */
export function inheritedSink(monitorPid: number | undefined): LogSink {
  const words = monitorPid === undefined ? [] : (readText(`/proc/${monitorPid}/cmdline`)?.split('\0') ?? []);
  return sinkOfMonitor(words);
}

/** Pure, for a test. */
export function sinkOfMonitor(words: readonly string[]): LogSink {
  const after = (option: string) => (words.includes(option) ? words[words.indexOf(option) + 1] : undefined);
  const path = /^k8s-file:(\/.+)$/.exec(after('--log-path') ?? '')?.[1];
  const generationBytes = Number(after('--log-size-max'));
  if (path === undefined || !(generationBytes > 0)) return { kind: 'none' };
  return { kind: 'file', path, generationBytes, limitBytes: 3 * generationBytes, compresses: false };
}
