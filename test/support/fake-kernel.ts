import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { fail } from '../../src/errors.ts';
import type { PacketSocket } from '../../src/host/packets.ts';
import type { PublishedLayer } from '../../src/layers/layer-records.ts';
import type { LayerOnDisk, Layers, StagedLayer, Verdict } from '../../src/layers/layers.ts';
import { digestOf } from '../../src/lib/digest.ts';
import { withResolvers } from '../../src/lib/promises.ts';
import { nowText } from '../../src/lib/time.ts';
import type { Endpoint, EndpointRequest, IpamConfig, NetworkSpec } from '../../src/network/model.ts';
import type { LiveContainer, Networks } from '../../src/network/networks.ts';
import { Attachment } from '../../src/runtime/attach.ts';
import type { ExecProcess, ExecSpec, RunningExec } from '../../src/runtime/exec.ts';
import type { ProbeLimits, ProbeResult } from '../../src/runtime/probe.ts';
import type { ContainerExit, FoundContainer, Runtime } from '../../src/runtime/runtime.ts';
import type { BundleSpec } from '../../src/runtime/spec.ts';

/** Does one step of the daemon that changes the world. A daemon that has died never comes back from it. */
export type Effect = <T>(name: string, work: () => Promise<T> | T) => Promise<T>;

export const withoutDeath: Effect = async (_name, work) => work();

interface Process {
  pid: number;
  status: 'created' | 'running' | 'paused';
  spec: BundleSpec;
  output: FakeSocket;
}

/**
 * What a daemon finds outside itself, and what stays when it dies: processes and how they ended, mounts, network
 * links, and the layers on the disk. {@link FakeKernel.losePower} takes all but the disk away.
 */
export class FakeKernel {
  readonly processes = new Map<string, Process>();
  /** Exit files that nobody has taken away. */
  readonly exits = new Map<string, ContainerExit>();
  /** Container directories whose root file system is mounted. */
  readonly mounts = new Set<string>();
  /** What each of them is, or was last, made of. */
  readonly lowers = new Map<string, readonly string[]>();
  /** By the IDs of container and network. */
  readonly links = new Map<string, Endpoint>();
  /** Names by ID, of networks that users made. */
  readonly networks = new Map<string, string>();
  readonly layers = new Map<string, PublishedLayer>();
  /** Directories of layers that are not what they were. */
  readonly damaged = new Set<string>();
  /** What the layers' tars were, by directory. */
  readonly tars = new Map<string, Buffer>();
  readonly staging = new Set<string>();
  /** What is staged, unpacked and verified; not on the disk yet. */
  readonly sealed = new Map<string, StagedLayer>();
  /** What containers have changed, as a layer's tar, by ID; those that are not here have changed nothing. */
  readonly changes = new Map<string, Buffer>();
  /** Signals that a process takes without ending, besides those it has to die of. */
  readonly ignoredSignals = new Set<number>();
  /** Contents of layers' tars that make extraction fail. */
  readonly badTars = new Set<string>();
  #nextPid = 1000;
  #nextDirectory = 1;
  #listener: ((exit: ContainerExit) => void) | undefined;

  watch(listener: ((exit: ContainerExit) => void) | undefined): void {
    this.#listener = listener;
  }

  newPid(): number {
    return this.#nextPid++;
  }

  newDirectory(): string {
    return `d${this.#nextDirectory++}`;
  }

  /** A container's process ends by itself. */
  end(id: string, exitCode: number): void {
    const process = this.processes.get(id);
    if (process === undefined) throw new Error(`no process ${id}`);
    this.processes.delete(id);
    process.output.finish();
    const exit = { id, exitCode, wasOomKilled: false, at: nowText(), isKnown: true };
    this.exits.set(id, exit);
    this.#listener?.(exit);
  }

  losePower(): void {
    this.watch(undefined);
    const lost = [this.processes, this.exits, this.mounts, this.links, this.networks, this.sealed];
    for (const state of lost) state.clear();
  }
}

/** The process's end of an attach socket. Remembers what it was told. */
export class FakeSocket implements PacketSocket {
  heard = '';
  isInputEnded = false;
  readonly #packets: Buffer[] = [];
  #isFinished = false;
  #wake = () => {};

  say(stream: 1 | 2, text: string): void {
    this.#packets.push(Buffer.concat([Buffer.from([stream + 1]), Buffer.from(text)]));
    this.#wake();
  }

  finish(): void {
    this.#isFinished = true;
    this.#wake();
  }

  async *packets(): AsyncGenerator<Buffer> {
    for (;;) {
      for (let packet = this.#packets.shift(); packet !== undefined; packet = this.#packets.shift())
        yield packet;
      if (this.#isFinished) return;
      const { promise, resolve } = withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.heard += Buffer.from(bytes).toString();
  }

  end(): void {
    this.isInputEnded = true;
  }

  close(): void {
    this.finish();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}

type RuntimeShape = Pick<
  Runtime,
  Exclude<keyof Runtime, typeof Symbol.asyncDispose | 'versions' | 'warnings'>
>;

const wellAnswer: ProbeResult = {
  exitCode: 0,
  output: Buffer.alloc(0),
  isTruncated: false,
  isTimedOut: false,
};

/** A process that a test ends. */
interface FakeExec {
  output: FakeSocket;
  size?: { rows: number; columns: number };
  end(exitCode: number): void;
}

/** Runs containers in a {@link FakeKernel}. One per life of the daemon. */
export class FakeRuntime implements RuntimeShape {
  readonly defaultName = 'crun';
  /** Makes the next call of this name fail. */
  readonly failures = new Map<string, Error>();
  readonly execs: ExecSpec[] = [];
  /** Each exec's other end, and how to end it. */
  readonly running = new Map<string, FakeExec>();
  readonly #kernel: FakeKernel;
  readonly #effect: Effect;
  readonly #attachments = new Map<string, Attachment>();

  constructor(kernel: FakeKernel, effect: Effect = withoutDeath) {
    this.#kernel = kernel;
    this.#effect = effect;
  }

  names(): string[] {
    return ['crun', 'runc'];
  }

  async whyNotDeep(): Promise<string | undefined> {
    return undefined;
  }

  async create(spec: BundleSpec): Promise<{ pid: number; startTicks: number }> {
    return this.#do('create', () => {
      if (this.#kernel.processes.has(spec.id)) throw fail.runtime(`container ${spec.id} exists`);
      const pid = this.#kernel.newPid();
      this.#kernel.processes.set(spec.id, { pid, status: 'created', spec, output: new FakeSocket() });
      return { pid, startTicks: 1 };
    });
  }

  async start(id: string): Promise<void> {
    await this.#do('start', () => {
      this.#known(id).status = 'running';
    });
  }

  async signal(id: string, signal: number): Promise<void> {
    await this.#do('signal', () => {
      const { status } = this.#known(id);
      if (this.#kernel.ignoredSignals.has(signal) || (status === 'paused' && signal !== 9)) return;
      this.#kernel.end(id, 128 + signal);
    });
  }

  async pause(id: string): Promise<void> {
    await this.#do('pause', () => {
      this.#known(id).status = 'paused';
    });
  }

  async resume(id: string): Promise<void> {
    await this.#do('resume', () => {
      this.#known(id).status = 'running';
    });
  }

  async resize(): Promise<void> {}

  /** There is no journal in this world. */
  async *readJournal(): AsyncGenerator<never> {}

  async update(id: string): Promise<void> {
    await this.#do('update', () => this.#known(id));
  }

  usage(): undefined {}

  async pids(id: string): Promise<number[]> {
    return [this.#known(id).pid];
  }

  async find(id: string): Promise<FoundContainer | undefined> {
    const process = this.#kernel.processes.get(id);
    if (process !== undefined) return { status: process.status, pid: process.pid };
    return this.#kernel.exits.has(id) ? { status: 'stopped', pid: 0 } : undefined;
  }

  async list(): Promise<string[]> {
    return [...new Set([...this.#kernel.processes.keys(), ...this.#kernel.exits.keys()])];
  }

  async exitOf(id: string): Promise<ContainerExit | undefined> {
    return this.#kernel.exits.get(id);
  }

  onExit(listener: (exit: ContainerExit) => void): () => void {
    this.#kernel.watch(listener);
    return () => this.#kernel.watch(undefined);
  }

  onOom(): () => void {
    return () => {};
  }

  async delete(id: string): Promise<void> {
    const process = this.#kernel.processes.get(id);
    if (process === undefined && !this.#kernel.exits.has(id)) return;
    await this.#do('delete', () => {
      this.#kernel.processes.delete(id);
      this.#kernel.exits.delete(id);
      process?.output.finish();
    });
    await this.#attachments.get(id)?.drain();
    this.#attachments.delete(id);
  }

  async attach(id: string): Promise<Attachment> {
    const known = this.#attachments.get(id);
    if (known !== undefined && !known.isEnded) return known;
    const { output, spec } = this.#known(id);
    const { hasStdin, isStdinOnce, terminal } = spec.process;
    const attachment = new Attachment(output, { hasStdin, keepsStdinOpen: terminal || !isStdinOnce });
    this.#attachments.set(id, attachment);
    return attachment;
  }

  async exec(spec: ExecSpec): Promise<RunningExec> {
    return this.#do('exec', () => {
      this.execs.push(spec);
      const output = new FakeSocket();
      const { promise: exit, resolve } = withResolvers<number>();
      const end = (exitCode: number) => {
        output.finish();
        resolve(exitCode);
      };
      const exec: FakeExec = { output, end };
      this.running.set(spec.execId, exec);
      const attachment = new Attachment(spec.isDetached ? undefined : output, {
        hasStdin: spec.hasStdin,
        keepsStdinOpen: spec.terminal,
      });
      const resize = (size: { rows: number; columns: number }) => {
        exec.size = size;
      };
      return { pid: this.#kernel.newPid(), exit, attachment, resize };
    });
  }

  /** How the next probes end; well, unless a test says otherwise. */
  answer = async (_spec: ExecProcess, _limits: ProbeLimits): Promise<ProbeResult> => wellAnswer;

  async probe(id: string, spec: ExecProcess, limits: ProbeLimits): Promise<ProbeResult> {
    this.#known(id);
    return this.answer(spec, limits);
  }

  #known(id: string): Process {
    const process = this.#kernel.processes.get(id);
    if (process === undefined) throw fail.notRunning(id);
    return process;
  }

  async checkpoint(): Promise<never> {
    throw fail.runtime('runc checkpoint failed: no criu');
  }

  async #do<T>(name: string, work: () => T): Promise<T> {
    return this.#effect(`runtime.${name}`, () => {
      const failure = this.failures.get(name);
      this.failures.delete(name);
      if (failure !== undefined) throw failure;
      return work();
    });
  }
}

/** Keeps layers as what they are made of: a layer's tar is not unpacked, only proven. */
export class FakeLayers implements Pick<Layers, keyof Layers> {
  /** How often each layer was begun, by diff ID. */
  readonly extractions: string[] = [];
  readonly #kernel: FakeKernel;
  readonly #effect: Effect;
  readonly #beforePacking: () => Promise<void>;

  constructor(
    kernel: FakeKernel,
    effect: Effect = withoutDeath,
    beforePacking: () => Promise<void> = async () => {},
  ) {
    this.#kernel = kernel;
    this.#effect = effect;
    this.#beforePacking = beforePacking;
  }

  async extract(input: Readable, o: Parameters<Layers['extract']>[1]): Promise<StagedLayer> {
    this.extractions.push(o.diffId ?? 'unknown');
    const directory = `${o.leaseId}/${this.#kernel.newDirectory()}`;
    await this.#effect('layers.stage', () => this.#kernel.staging.add(directory));
    try {
      const tar = await buffer(input.on('data', (chunk: Buffer) => o.onProgress?.(chunk.length)));
      o.signal.throwIfAborted();
      const [diffId, { length }] = [digestOf(tar), tar];
      if (o.diffId !== undefined && diffId !== o.diffId)
        throw fail.corrupt(`layer verification failed: ${o.diffId}`);
      const dirId = directory.slice(o.leaseId.length + 1);
      this.#kernel.tars.set(dirId, tar);
      const staged = { dirId, diffId, sizeBytes: length, tarBytes: length, leaseId: o.leaseId, directory };
      this.#kernel.sealed.set(directory, staged);
      return staged;
    } catch (cause) {
      this.#kernel.staging.delete(directory);
      throw o.signal.aborted ? o.signal.reason : cause;
    }
  }

  async topOf(): Promise<{ name: string; isFile: boolean }[]> {
    return [{ name: 'never-unpacked', isFile: true }];
  }

  async applyDelta(): Promise<never> {
    throw new Error('a layer that was never unpacked is no base');
  }

  async publish({ dirId, diffId, sizeBytes, tarBytes, directory }: StagedLayer): Promise<PublishedLayer> {
    return this.#effect('layers.publish', () => {
      const layer = { dirId, diffId, sizeBytes, tarBytes };
      this.#kernel.staging.delete(directory);
      this.#kernel.sealed.delete(directory);
      this.#kernel.layers.set(dirId, layer);
      return layer;
    });
  }

  async discard({ directory }: StagedLayer): Promise<void> {
    this.#kernel.staging.delete(directory);
    this.#kernel.sealed.delete(directory);
  }

  async *staged(): AsyncGenerator<StagedLayer, void, undefined> {
    yield* [...this.#kernel.sealed.values()];
  }

  async verifyStaged({ dirId, diffId }: StagedLayer): Promise<boolean> {
    return digestOf(this.#kernel.tars.get(dirId) ?? '') === diffId;
  }

  async *list(): AsyncGenerator<LayerOnDisk, void, undefined> {
    for (const layer of this.#kernel.layers.values()) yield { ...layer, isJunk: false };
  }

  async mend(): Promise<void> {}

  async mounted(): Promise<Set<string>> {
    return new Set(
      [...this.#kernel.mounts].flatMap((containerDir) => this.#kernel.lowers.get(containerDir) ?? []),
    );
  }

  async remove(dirId: string): Promise<void> {
    await this.#effect('layers.remove', () => this.#kernel.layers.delete(dirId));
  }

  async bury(dirId: string): Promise<string | undefined> {
    return this.#effect('layers.bury', () => {
      if (!this.#kernel.layers.delete(dirId)) return undefined;
      this.#kernel.staging.add(`removed-${dirId}`);
      return `removed-${dirId}`;
    });
  }

  async sweepStaging(): Promise<void> {
    await this.#effect('layers.sweep', () => {
      this.#kernel.staging.clear();
      this.#kernel.sealed.clear();
    });
  }

  tar(dirId: string): Readable {
    if (!this.#kernel.layers.has(dirId)) throw fail.corrupt(`layer directory ${dirId} is missing`);
    return Readable.from([this.#kernel.tars.get(dirId) ?? Buffer.alloc(0)], { objectMode: false });
  }

  packTree(_root: string, { signal }: { signal: AbortSignal }): Readable {
    return this.#packed(Buffer.alloc(1024), signal);
  }

  packChanges({ containerDir }: { containerDir: string }, { signal }: { signal: AbortSignal }): Readable {
    return this.#packed(this.#kernel.changes.get(basename(containerDir)) ?? Buffer.alloc(1024), signal);
  }

  #packed(tar: Buffer, signal: AbortSignal): Readable {
    const pack = () =>
      this.#effect('layers.pack', async () => {
        await this.#beforePacking();
        signal.throwIfAborted();
        return tar;
      });
    return Readable.from(
      (async function* () {
        yield await pack();
      })(),
      { objectMode: false },
    );
  }

  async verify(dirId: string): Promise<Verdict> {
    if (!this.#kernel.layers.has(dirId)) return { state: 'missing', differences: [] };
    if (this.#kernel.damaged.has(dirId)) return { state: 'damaged', differences: ['/bin/app is missing'] };
    return { state: 'ok', differences: [] };
  }

  async mountRootfs(o: { dirIds: readonly string[]; containerDir: string }): Promise<string> {
    for (const dirId of o.dirIds)
      if (!this.#kernel.layers.has(dirId)) throw fail.host(`no layer directory ${dirId}`);
    const merged = join(o.containerDir, 'merged');
    await mkdir(merged, { recursive: true });
    await this.#effect('mount', () => {
      this.#kernel.mounts.add(o.containerDir);
      this.#kernel.lowers.set(o.containerDir, o.dirIds);
    });
    return merged;
  }

  async unmountRootfs(containerDir: string): Promise<void> {
    if (!this.#kernel.mounts.has(containerDir)) return;
    await this.#effect('unmount', () => this.#kernel.mounts.delete(containerDir));
  }
}

/** Plugs containers into nothing. What it was told it forgets with the daemon; the links it made stay. */
export class FakeNetworks implements Pick<Networks, Exclude<keyof Networks, typeof Symbol.asyncDispose>> {
  failure: Error | undefined;
  readonly hostGateway = '172.17.0.1';
  readonly defaultBridge: NetworkSpec = {
    id: 'b'.repeat(64),
    name: 'bridge',
    driver: 'bridge',
    isIpv6: false,
    isInternal: false,
    ipam: [{ subnet: '172.17.0.0/16', gateway: '172.17.0.1' }],
    options: {},
  };
  readonly #kernel: FakeKernel;
  readonly #effect: Effect;
  readonly #known = new Map<string, Endpoint>();
  readonly #added = new Set<string>();

  constructor(kernel: FakeKernel, effect: Effect = withoutDeath) {
    this.#kernel = kernel;
    this.#effect = effect;
  }

  async settle({ ipam }: NetworkSpec): Promise<IpamConfig[]> {
    if (this.failure !== undefined) throw this.failure;
    return ipam.length > 0 ? ipam : [{ subnet: '172.18.0.0/16', gateway: '172.18.0.1' }];
  }

  forget(): void {}

  async add({ id, name }: NetworkSpec): Promise<void> {
    if (id === this.defaultBridge.id) return;
    await this.#effect('networks.add', () => {
      if (this.failure !== undefined) throw this.failure;
      this.#added.add(id);
      this.#kernel.networks.set(id, name);
    });
  }

  async remove(id: string): Promise<void> {
    await this.#effect('networks.remove', () => {
      if (this.failure !== undefined) throw this.failure;
      this.#added.delete(id);
      this.#kernel.networks.delete(id);
    });
  }

  async connect({ networkId, containerId, ports }: EndpointRequest): Promise<Endpoint> {
    return this.#effect('networks.connect', () => {
      if (this.failure !== undefined) throw this.failure;
      const isThere = networkId === this.defaultBridge.id || this.#added.has(networkId);
      assert.ok(isThere, `network ${networkId} is not there`);
      const key = `${containerId} ${networkId}`;
      const endpoint: Endpoint = {
        networkId,
        containerId,
        ipAddress: `172.17.0.${2 + this.#kernel.links.size}`,
        prefixLength: 16,
        gateway: '172.17.0.1',
        ipv6Address: '',
        ipv6PrefixLength: 0,
        ipv6Gateway: '',
        macAddress: '02:42:ac:11:00:02',
        endpointId: 'e'.repeat(64),
        ports: ports.map(({ containerPort, protocol, hostIp, hostPort }) => ({
          containerPort,
          protocol,
          hostIp: hostIp || '0.0.0.0',
          hostPort: hostPort || 49153,
        })),
        interfaceName: 'eth0',
        hostInterface: `veth${containerId.slice(0, 8)}`,
      };
      this.#known.set(key, endpoint);
      this.#kernel.links.set(key, endpoint);
      return endpoint;
    });
  }

  async disconnect(networkId: string, containerId: string): Promise<void> {
    const key = `${containerId} ${networkId}`;
    if (!this.#known.delete(key)) return;
    await this.#effect('networks.disconnect', () => this.#kernel.links.delete(key));
  }

  async disconnectAll(containerId: string): Promise<void> {
    for (const { networkId } of this.endpointsOf(containerId)) await this.disconnect(networkId, containerId);
  }

  endpointsOf(containerId: string): Endpoint[] {
    return [...this.#known.values()].filter((endpoint) => endpoint.containerId === containerId);
  }

  async recover(live: readonly LiveContainer[]): Promise<void> {
    await this.#effect('networks.recover', () => {
      this.#kernel.links.clear();
      for (const id of this.#kernel.networks.keys())
        if (!this.#added.has(id)) this.#kernel.networks.delete(id);
      for (const endpoint of live.flatMap(({ endpoints }) => endpoints)) {
        const key = `${endpoint.containerId} ${endpoint.networkId}`;
        this.#known.set(key, endpoint);
        this.#kernel.links.set(key, endpoint);
      }
    });
  }
}
