import { setTimeout as sleep } from 'node:timers/promises';
import { fail } from '../errors.ts';
import type { CgroupUsage } from '../host/cgroup-usage.ts';
import { cpus, memoryBytes, systemCpuNs } from '../host/facts.ts';
import { type InterfaceCounters, interfaceCountersOf } from '../host/interface-counters.ts';
import { nowText } from '../lib/time.ts';
import type { Runtime } from '../runtime/runtime.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import type { ContainerRecord } from './model.ts';

/** What the processors did up to a moment. */
export interface CpuSample {
  readonly usage: CgroupUsage['cpu'];
  readonly systemNs: number;
  readonly onlineCpus: number;
}

/** What a running container uses, and what it had used at the look before. */
export interface StatsSample {
  /** RFC 3339 with nanoseconds. */
  readonly at: string;
  readonly usage: CgroupUsage;
  /** The container's limit, or all that the machine has. */
  readonly memoryLimitBytes: number;
  readonly cpu: CpuSample;
  readonly interfaces: ReadonlyMap<string, InterfaceCounters>;
  readonly before?: { readonly at: string; readonly cpu: CpuSample };
}

/** A container's line of statistics; one that does not run has no sample. */
export interface ContainerStats {
  readonly id: string;
  readonly name: string;
  readonly sample?: StatsSample;
}

/** dockerd's rhythm, which clients compute rates by. */
const INTERVAL_MS = 1000;

/** Tells what containers use, by the kernel's counters. Nothing is read while nobody asks. */
export class Stats {
  readonly #records: ContainerRecords;
  readonly #runtime: Pick<Runtime, 'usage'>;

  constructor(o: { records: ContainerRecords; runtime: Pick<Runtime, 'usage'> }) {
    this.#records = o.records;
    this.#runtime = o.runtime;
  }

  /** One look. Without `isOneShot` it is the second of two, a second apart, so that rates can be had of it. */
  async once(ref: string, o: { isOneShot: boolean; signal: AbortSignal }): Promise<ContainerStats> {
    const { id } = this.#records.find(ref);
    const first = this.#look(id);
    if (o.isOneShot || first?.sample === undefined) return first ?? this.#gone(ref);
    await sleep(INTERVAL_MS, undefined, { signal: o.signal });
    return this.#look(id, first.sample) ?? this.#gone(ref);
  }

  /** A look each second, until the container is removed or the signal comes. Throws 404 before the first. */
  stream(ref: string, o: { signal: AbortSignal }): AsyncIterable<ContainerStats> {
    const { id } = this.#records.find(ref);
    return this.#looks(id, o.signal);
  }

  async *#looks(id: string, signal: AbortSignal): AsyncGenerator<ContainerStats> {
    let before: StatsSample | undefined;
    for (let due = performance.now(); ; ) {
      const stats = this.#look(id, before);
      if (stats === undefined) return;
      yield stats;
      before = stats.sample;
      // a client that was slow to read gets the next look at the next full second, not all that it missed
      due = Math.max(due + INTERVAL_MS, performance.now());
      await sleep(due - performance.now(), undefined, { signal });
    }
  }

  /** Undefined once there is no such container. */
  #look(id: string, before?: StatsSample): ContainerStats | undefined {
    const record = this.#records.get(id);
    if (record === undefined) return undefined;
    const usage = isRunning(record) ? this.#runtime.usage(id) : undefined;
    const known = { id, name: record.name };
    return usage === undefined ? known : { ...known, sample: sampleOf(record, usage, before) };
  }

  #gone(ref: string): never {
    throw fail.noSuchContainer(ref);
  }
}

function sampleOf(
  { hostConfig, state }: ContainerRecord,
  usage: CgroupUsage,
  before: StatsSample | undefined,
): StatsSample {
  const all = memoryBytes();
  return {
    at: nowText(),
    usage,
    memoryLimitBytes: Math.min(usage.memory?.limitBytes ?? all, all),
    cpu: { usage: usage.cpu, systemNs: systemCpuNs(), onlineCpus: cpus() },
    // the host's own are not the container's
    interfaces: hostConfig.networkMode === 'host' ? new Map() : interfaceCountersOf(state.pid),
    ...(before && { before: { at: before.at, cpu: before.cpu } }),
  };
}
