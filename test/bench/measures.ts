import { setTimeout as sleep } from 'node:timers/promises';
import type { ImageFacts } from './bench-image.ts';
import type { Daemon } from './daemon.ts';
import { memoryOf, pidsNamed } from './process-group.ts';

/** What is measured of one pull, in base units (bytes, seconds). */
export interface PullMeasures {
  pullSeconds: number;
  pullCpuSeconds: number;
  pullPeakRssBytes: number;
  pullPeakPssBytes: number;
  pullPeakAnonymousBytes: number;
  pullWrittenBytes: number;
}

/** Everything that is measured of one engine in one round, in base units (bytes, seconds, per second). */
export interface Measures extends PullMeasures {
  startSeconds: number;
  idleRssBytes: number;
  idlePssBytes: number;
  idleAnonymousBytes: number;
  writtenPerUncompressed: number;
  runWithoutNetworkSeconds: number;
  runWithBridgeSeconds: number;
  execSeconds: number;
  containersPerSecond: number;
  listsPerSecond: number;
  containerRssBytes: number;
  containerPssBytes: number;
  afterwardsRssBytes: number;
}

const SETTLE_MS = 5000;
const RSS_EVERY_MS = 10;
/** Page tables are walked for these, which slows the measured processes down. */
const PSS_EVERY_MS = 100;

/** One round: a fresh engine does the whole job. */
export async function measure(daemon: Daemon, image: string, facts: ImageFacts): Promise<Measures> {
  const startSeconds = (await daemon.start()) / 1000;
  await sleep(SETTLE_MS);
  const idle = daemon.group.memory();
  const pull = await measurePull(daemon, image);
  const runs = await measureRuns(daemon, image);
  const crowd = await measureCrowd(daemon, image);
  await sleep(SETTLE_MS);
  return {
    startSeconds,
    idleRssBytes: idle.rssBytes,
    idlePssBytes: idle.pssBytes,
    idleAnonymousBytes: idle.anonymousBytes,
    ...pull,
    writtenPerUncompressed: pull.pullWrittenBytes / facts.tarBytes,
    ...runs,
    ...crowd,
    afterwardsRssBytes: daemon.group.memory().rssBytes,
  };
}

/** A pull, from the call of the CLI to its end; what is written until everything of it is on the disk. */
export async function measurePull(daemon: Daemon, image: string): Promise<PullMeasures> {
  const writtenBefore = await daemon.disk.writtenBytes();
  const cpuBefore = daemon.group.cpuSeconds();
  const watch = watchMemory(daemon);
  const pullSeconds = await timed(() => daemon.docker('pull', image));
  const peak = watch.stop();
  return {
    pullSeconds,
    pullCpuSeconds: daemon.group.cpuSeconds() - cpuBefore,
    ...peak,
    pullWrittenBytes: (await daemon.disk.writtenBytes()) - writtenBefore,
  };
}

/** The highest of what the daemon and its children held together at one time. */
function watchMemory(daemon: Daemon) {
  const peak = { pullPeakRssBytes: 0, pullPeakPssBytes: 0, pullPeakAnonymousBytes: 0 };
  const quick = setInterval(() => {
    peak.pullPeakRssBytes = Math.max(peak.pullPeakRssBytes, daemon.group.rssBytes());
  }, RSS_EVERY_MS);
  const thorough = setInterval(() => {
    peak.pullPeakPssBytes = Math.max(peak.pullPeakPssBytes, daemon.group.memory().pssBytes);
    const charged = daemon.group.chargedAnonymousBytes();
    peak.pullPeakAnonymousBytes = Math.max(peak.pullPeakAnonymousBytes, charged);
  }, PSS_EVERY_MS);
  return {
    stop() {
      clearInterval(quick);
      clearInterval(thorough);
      return peak;
    },
  };
}

async function measureRuns(daemon: Daemon, image: string) {
  const runWithoutNetworkSeconds = await medianOf(10, () =>
    daemon.docker('run', '--rm', '--net', 'none', image, 'true'),
  );
  const runWithBridgeSeconds = await medianOf(10, () => daemon.docker('run', '--rm', image, 'true'));
  await daemon.docker('run', '--detach', '--name', 'target', image, 'sleep', '1000');
  const execSeconds = await medianOf(10, () => daemon.docker('exec', 'target', 'true'));
  await daemon.docker('rm', '--force', 'target');
  const each = await timed(async () => {
    for (let done = 0; done < 20; done++) await liveAndDie(daemon, image);
  });
  return { runWithoutNetworkSeconds, runWithBridgeSeconds, execSeconds, containersPerSecond: 20 / each };
}

/** A container's whole life through the API alone. */
async function liveAndDie(daemon: Daemon, image: string): Promise<void> {
  const wish = { Image: image, Cmd: ['true'], HostConfig: { NetworkMode: 'none' } };
  const { Id } = JSON.parse(await daemon.api('POST', '/containers/create', wish));
  await daemon.api('POST', `/containers/${Id}/start`);
  await daemon.api('POST', `/containers/${Id}/wait`);
  await daemon.api('DELETE', `/containers/${Id}`);
}

/** Ten containers: what they cost, and how fast they are listed by four clients at once. */
async function measureCrowd(daemon: Daemon, image: string) {
  const count = 10;
  const names = Array.from({ length: count }, (_, index) => `crowd-${index}`);
  for (const name of names) await daemon.docker('run', '--detach', '--name', name, image, 'sleep', '1000');
  await sleep(SETTLE_MS);
  const watchers = memoryOf(pidsNamed(daemon.contender.monitor));
  const listsPerSecond = await rateOf(4, 3000, () => daemon.api('GET', '/containers/json'));
  await daemon.docker('rm', '--force', ...names);
  return {
    listsPerSecond,
    containerRssBytes: watchers.rssBytes / count,
    containerPssBytes: watchers.pssBytes / count,
  };
}

async function rateOf(clients: number, forMs: number, once: () => Promise<unknown>): Promise<number> {
  const until = performance.now() + forMs;
  let answers = 0;
  const client = async () => {
    for (; performance.now() < until; answers++) await once();
  };
  const seconds = await timed(() => Promise.all(Array.from({ length: clients }, client)));
  return answers / seconds;
}

export async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return (performance.now() - began) / 1000;
}

async function medianOf(times: number, work: () => Promise<unknown>): Promise<number> {
  const all: number[] = [];
  for (let done = 0; done < times; done++) all.push(await timed(work));
  return median(all);
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1] ?? 0, sorted[sorted.length >> 1] ?? 0];
  return (low + high) / 2;
}
