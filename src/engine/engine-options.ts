import type { CgroupLimits } from '../host/cgroup-limits.ts';
import type { DeltaMaker } from '../layers/delta-maker.ts';
import type { FileJobs } from '../layers/file-jobs.ts';
import type { Layers } from '../layers/layers.ts';
import type { Log } from '../lib/log.ts';
import type { Networks } from '../network/networks.ts';
import type { ResolverWishes } from '../network/resolver.ts';
import type { Registry } from '../registry/registry.ts';
import type { Runtime } from '../runtime/runtime.ts';
import type { Store } from '../store/store.ts';
import type { ContainerDefaults } from './container-checks.ts';
import type { DeltaSettings } from './delta-pulls.ts';
import type { LaunchDefaults } from './launcher.ts';
import type { PushRegistry } from './pushes.ts';

/** The parts below the engine, opened, and the few values that are its own. */
export interface EngineOptions {
  store: Store;
  layers: Pick<Layers, keyof Layers>;
  deltaMaker: Pick<DeltaMaker, 'make'>;
  fileJobs: Pick<FileJobs, 'stat' | 'pack' | 'unpack' | 'changes'>;
  registry: Pick<Registry, 'resolve' | 'tags' | 'blob' | 'unpackedBytes' | 'download' | 'deltas'> &
    PushRegistry;
  runtime: Pick<Runtime, Exclude<keyof Runtime, typeof Symbol.asyncDispose | 'versions' | 'warnings'>>;
  networks: Pick<Networks, Exclude<keyof Networks, typeof Symbol.asyncDispose>>;
  /** What new networks get that do not say, by driver. */
  defaultNetworkOptions: Readonly<Record<string, Readonly<Record<string, string>>>>;
  dataRoot: string;
  execRoot: string;
  resolver: ResolverWishes;
  /** What `host-gateway` stands for in a container's extra hosts. */
  hostGateway: string;
  limits: CgroupLimits;
  /** The daemon's, as images that are made here tell it. */
  release: string;
  parallelDownloads: number;
  parallelUploads: number;
  /** Speaks to balena-style supervisors in their way. */
  supervisorCompat: boolean;
  deltas: DeltaSettings;
  /** The data root of another engine, whose images may serve as bases of deltas. */
  deltaDataRoot: string | undefined;
  /** How long the layers of a pull that died wait for the next try. */
  pullLeaseMs: number;
  /** How many images a tag remembers besides the one that it stands for. */
  keepGenerations: number;
  /** Larger blobs are spooled; none if undefined. */
  pullSpoolAboveBytes: number | undefined;
  containers: LaunchDefaults & ContainerDefaults;
  log: (part: string) => Log;
}
