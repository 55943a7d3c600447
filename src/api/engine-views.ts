import type { Health } from '../engine/health-rules.ts';
import type { ContainerRecord, EndpointSettings } from '../engine/model.ts';
import type { NetworkRecord } from '../engine/network-records.ts';
import type { ImageConfig } from '../lib/image-config.ts';

/**
 * What the API needs to know of the engine's objects in order to show them. The engine's own types fit by shape; a
 * route declares beside itself which calls it makes.
 */

/** A container as a list shows it. */
export interface ContainerSummary {
  record: ContainerRecord;
  /** By itself, and by those that are linked to it. */
  names: string[];
  /** What the client named, or the image's ID once that name means another image. */
  imageName: string;
  /** How its check finds it; absent where nothing is checked. */
  health?: Health;
  /** Bytes of the container's own files, and of these with its image's. */
  sizes?: { rwBytes: number; rootBytes: number };
}

/** A container in full. */
export interface ContainerView extends ContainerSummary {
  paths: {
    log: string;
    hosts: string;
    hostname: string;
    resolv: string;
    upper: string;
    merged: string;
    work: string;
    /** Topmost first, as overlayfs wants them. */
    lower: readonly string[];
  };
}

/** A network with those that are on it. */
export interface NetworkView {
  record: NetworkRecord;
  attachments: readonly { containerId: string; containerName: string; endpoint: EndpointSettings }[];
}

/** What is at a path of a container. */
export interface PathFacts {
  readonly name: string;
  readonly sizeBytes: number;
  /** As stat(2) has it. */
  readonly mode: number;
  /** Nanoseconds since 1970, in decimal. */
  readonly modifiedNanos: string;
  /** Where a link leads in the end; empty for what is none. */
  readonly linkTarget: string;
}

/** An exec as inspect shows it. */
export interface ExecView {
  id: string;
  containerId: string;
  request: ExecRequest;
  isRunning: boolean;
  /** Absent until it has ended. */
  exitCode?: number;
  pid: number;
  /** It ended a while ago and will soon be forgotten. */
  isStale: boolean;
}

/** One more process in a container, as a client asks for it. */
export interface ExecRequest {
  attachStdin: boolean;
  attachStdout: boolean;
  attachStderr: boolean;
  tty: boolean;
  detachKeys: string;
  env: string[] | null;
  cmd: string[];
  privileged: boolean;
  user: string;
  workingDir: string;
  /** Rows, columns. */
  consoleSize?: [number, number];
}

/** An image with the names it goes by, in the short form that people read. */
export interface ImageView {
  record: {
    id: string;
    diffIds: readonly string[];
    sizeBytes: number;
    platform: { os: string; architecture: string; variant?: string };
    lastTagTime?: string;
    /** The image that it was made on here. */
    parent?: string;
  };
  config: ImageConfig;
  repoTags: readonly string[];
  repoDigests: readonly string[];
  /** The directories of its layers, topmost first; absent where the engine does not tell. */
  layerDirs?: readonly string[];
}

/** An image as a list shows it. */
export interface ImageSummary extends ImageView {
  containers: number;
  /** Bytes in layers that other images use too; -1 if not asked for. */
  sharedBytes: number;
}

/** A tag, and what it can be rolled back to, newest first. */
export interface Generations {
  name: string;
  imageId: string;
  /** RFC 3339. */
  since: string;
  generations: readonly {
    imageId: string;
    /** What the registry called it. */
    digest?: string;
    /** RFC 3339. */
    until: string;
    sizeBytes: number;
    isWhole: boolean;
  }[];
}

/** A step of an image's making. */
export interface HistoryEntry {
  /** The image that ended with this step; undefined if it is not here. */
  id?: string;
  /** RFC 3339; undefined if the image does not say. */
  created?: string;
  createdBy: string;
  tags: readonly string[];
  sizeBytes: number;
  comment: string;
}

/** One line of a log. */
export interface LogLine {
  stream: 1 | 2;
  timeNanos: bigint;
  data: Buffer;
}

/** What `GET /version` tells. */
export interface VersionView {
  /** The product's name, for people. */
  platformName: string;
  /** `Engine`, which balena-style supervisors look for; absent for everyone else. */
  engineName?: string;
  gitCommit: string;
  /** What it is built with; stands where dockerd names its Go. */
  toolchain: string;
  os: string;
  /** Go's name: `amd64`, `arm64`, `arm`. */
  architecture: string;
  kernelVersion: string;
  /** RFC 3339. */
  buildTime: string;
  /** What else is at work: runtimes, monitors. */
  components: readonly { name: string; version: string; details?: Readonly<Record<string, string>> }[];
}

/** What `GET /info` tells. */
export interface SystemView {
  /** A stable name of this installation. */
  id: string;
  containers: { running: number; paused: number; stopped: number };
  images: number;
  driver: string;
  driverStatus: readonly (readonly [string, string])[];
  plugins: { volume: readonly string[]; network: readonly string[]; log: readonly string[] };
  /** What the kernel can do. */
  limits: {
    memory: boolean;
    swap: boolean;
    cpuPeriod: boolean;
    cpuQuota: boolean;
    cpuShares: boolean;
    cpuSet: boolean;
    pids: boolean;
    oomKillDisable: boolean;
    kernelMemory: boolean;
    kernelMemoryTcp: boolean;
  };
  isForwardingIpv4: boolean;
  isBridgeFilteredByIptables: boolean;
  isBridgeFilteredByIp6tables: boolean;
  isDebug: boolean;
  openFiles: number;
  eventListeners: number;
  /** RFC 3339 with nanoseconds. */
  time: string;
  loggingDriver: string;
  cgroupDriver: string;
  cgroupVersion: 1 | 2;
  kernelVersion: string;
  operatingSystem: string;
  osVersion: string;
  /** As `uname -m` prints it. */
  machine: string;
  cpus: number;
  memoryBytes: number;
  dataRoot: string;
  proxies: { http: string; https: string; no: string };
  hostname: string;
  labels: readonly string[];
  runtimes: Readonly<Record<string, { path: string; args?: readonly string[] }>>;
  defaultRuntime: string;
  initProgram: string;
  /** Where devices are described. */
  cdiDirectories: readonly string[];
  commits: { containerd: string; runc: string; init: string };
  /** As dockerd writes them: `name=seccomp,profile=builtin`. */
  securityOptions: readonly string[];
  registries: {
    insecureCidrs: readonly string[];
    /** Host with optional port. */
    insecureHosts: readonly string[];
    mirrors: readonly string[];
  };
  addressPools: readonly { base: string; size: number }[];
  warnings: readonly string[];
}

/** Something that happened. */
export interface EngineEvent {
  type: string;
  action: string;
  actor: { id: string; attributes: Readonly<Record<string, string>> };
  /** Nanoseconds since 1970. */
  timeNanos: bigint;
  scope: string;
}

/** What a registry has under a name. */
export interface InspectionView {
  mediaType: string;
  digest: string;
  sizeBytes: number;
  platforms: readonly {
    architecture: string;
    os: string;
    /** Empty where there is none, like what follows. */
    osVersion: string;
    osFeatures: readonly string[];
    variant: string;
  }[];
}

/** A repository that a search found. */
export interface SearchResultView {
  name: string;
  description: string;
  stars: number;
  isOfficial: boolean;
  isAutomated: boolean;
}
