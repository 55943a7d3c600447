import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fail } from '../errors.ts';
import { ZERO_TIME } from '../lib/time.ts';
import type { ApiContext } from './context.ts';
import { answerJson, beginStream } from './respond.ts';
import { Router } from './router.ts';

/** What the routes need of the engine to look at running containers. */
export interface Stats {
  /** One look, or with `isOneShot: false` two that are a second apart. */
  once(ref: string, o: { isOneShot: boolean; signal: AbortSignal }): Promise<ContainerStats>;
  /** A look each second, until the container is removed. */
  stream(ref: string, o: { signal: AbortSignal }): AsyncIterable<ContainerStats>;
}

export interface ProcessLists {
  top(
    ref: string,
    psArgs: string,
    o: { signal: AbortSignal },
  ): Promise<{ titles: readonly string[]; processes: readonly (readonly string[])[] }>;
}

/** Counters of a container; without a sample it does not run. */
export interface ContainerStats {
  id: string;
  name: string;
  sample?: StatsSample;
}

export interface CpuSample {
  usage: {
    totalNs: number;
    kernelNs: number;
    userNs: number;
    perCpuNs?: readonly number[];
    periods: number;
    throttledPeriods: number;
    throttledNs: number;
  };
  systemNs: number;
  onlineCpus: number;
}

export interface BlockCount {
  major: number;
  minor: number;
  op: string;
  value: number;
}

export interface InterfaceCounters {
  rxBytes: number;
  rxPackets: number;
  rxErrors: number;
  rxDropped: number;
  txBytes: number;
  txPackets: number;
  txErrors: number;
  txDropped: number;
}

export interface StatsSample {
  at: string;
  usage: {
    /** Of the control groups, whose counters differ. */
    version: 1 | 2;
    memory?: {
      usageBytes: number;
      maxUsageBytes?: number;
      failures?: number;
      stat: Readonly<Record<string, number>>;
    };
    pids: { current: number; limit?: number };
    block: { bytes: readonly BlockCount[]; operations: readonly BlockCount[] };
  };
  memoryLimitBytes: number;
  cpu: CpuSample;
  interfaces: ReadonlyMap<string, InterfaceCounters>;
  before?: { at: string; cpu: CpuSample };
}

export function containerStatsRoutes({ stats, processLists }: StatsParts): Router {
  const router = new Router();

  /** 200 with one object or a stream of them, 400 for a stream of one shot, 404 no such container. */
  router.get('/containers/:id/stats', async (ctx, id) => {
    const { query, axes, signal } = ctx.state;
    const isStream = !query.has('stream') || query.flag('stream');
    const isOneShot = axes.has('G030') && query.flag('one-shot');
    if (!isStream) return answerJson(ctx, statsWire(await stats.once(id, { isOneShot, signal })));
    const lines = stats.stream(id, { signal });
    if (isOneShot) throw fail.badRequest('cannot have stream=true and one-shot=true');
    await answerStream(ctx, lines);
  });

  /** 200, 404 no such container, 409 not running, 500 with what ps says of its arguments. */
  router.get('/containers/:id/top', async (ctx, id) => {
    const { query, signal } = ctx.state;
    const { titles, processes } = await processLists.top(id, query.text('ps_args'), { signal });
    answerJson(ctx, { Processes: processes, Titles: titles });
  });

  return router;
}

export interface StatsParts {
  stats: Stats;
  processLists: ProcessLists;
}

async function answerStream(ctx: ApiContext, looks: AsyncIterable<ContainerStats>): Promise<void> {
  beginStream(ctx);
  const lines = async function* () {
    for await (const look of looks) yield `${JSON.stringify(statsWire(look))}\n`;
  };
  // two lines at most wait for a client that does not read
  await pipeline(Readable.from(lines(), { highWaterMark: 1 }), ctx.res);
}

/** As dockerd's types.StatsJSON prints it, keys in its order. */
export function statsWire({ id, name, sample }: ContainerStats): object {
  const { before, interfaces } = sample ?? {};
  return {
    read: sample?.at ?? ZERO_TIME,
    preread: before?.at ?? ZERO_TIME,
    pids_stats: pidsWire(sample),
    blkio_stats: blockWire(sample),
    num_procs: 0,
    storage_stats: {},
    cpu_stats: cpuWire(sample?.cpu),
    precpu_stats: cpuWire(before?.cpu),
    memory_stats: memoryWire(sample),
    name: `/${name}`,
    id,
    ...(interfaces !== undefined &&
      interfaces.size > 0 && {
        networks: Object.fromEntries(
          [...interfaces].map(([key, counters]) => [key, interfaceWire(counters)]),
        ),
      }),
  };
}

function pidsWire(sample: StatsSample | undefined): object {
  const { current = 0, limit } = sample?.usage.pids ?? {};
  return { ...(current > 0 && { current }), ...(limit !== undefined && { limit }) };
}

/** Version 1 counts more than we are told by it any more: those lists are empty; version 2 has none of them. */
function blockWire(sample: StatsSample | undefined): object {
  const { version, block } = sample?.usage ?? {};
  const list = (counts: readonly BlockCount[]) =>
    counts.map(({ major, minor, op, value }) => ({ major, minor, op, value }));
  const ofOld = version === 1 ? [] : null;
  return {
    io_service_bytes_recursive: block === undefined ? null : list(block.bytes),
    io_serviced_recursive: version === 1 && block !== undefined ? list(block.operations) : null,
    io_queue_recursive: ofOld,
    io_service_time_recursive: ofOld,
    io_wait_time_recursive: ofOld,
    io_merged_recursive: ofOld,
    io_time_recursive: ofOld,
    sectors_recursive: ofOld,
  };
}

function cpuWire(cpu: CpuSample | undefined): object {
  const { usage, systemNs, onlineCpus } = cpu ?? {};
  return {
    cpu_usage: {
      total_usage: usage?.totalNs ?? 0,
      ...(usage?.perCpuNs && usage.perCpuNs.length > 0 && { percpu_usage: usage.perCpuNs }),
      usage_in_kernelmode: usage?.kernelNs ?? 0,
      usage_in_usermode: usage?.userNs ?? 0,
    },
    ...(systemNs && { system_cpu_usage: systemNs }),
    ...(onlineCpus && { online_cpus: onlineCpus }),
    throttling_data: {
      periods: usage?.periods ?? 0,
      throttled_periods: usage?.throttledPeriods ?? 0,
      throttled_time: usage?.throttledNs ?? 0,
    },
  };
}

function memoryWire(sample: StatsSample | undefined): object {
  const memory = sample?.usage.memory;
  if (sample === undefined || memory === undefined) return {};
  const { usageBytes, maxUsageBytes, failures, stat } = memory;
  return {
    ...(usageBytes > 0 && { usage: usageBytes }),
    ...(maxUsageBytes && { max_usage: maxUsageBytes }),
    // Go prints a map in the order of its keys
    stats: Object.fromEntries(Object.entries(stat).sort(([a], [b]) => (a < b ? -1 : 1))),
    ...(failures && { failcnt: failures }),
    limit: sample.memoryLimitBytes,
  };
}

function interfaceWire(c: InterfaceCounters): object {
  return {
    rx_bytes: c.rxBytes,
    rx_packets: c.rxPackets,
    rx_errors: c.rxErrors,
    rx_dropped: c.rxDropped,
    tx_bytes: c.txBytes,
    tx_packets: c.txPackets,
    tx_errors: c.txErrors,
    tx_dropped: c.txDropped,
  };
}
