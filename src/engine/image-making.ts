import { type Digest, digestOf } from '../lib/digest.ts';
import { type ImageRunConfig, parseImageConfig } from '../lib/image-config.ts';
import type { Platform } from '../lib/platform.ts';
import { nowText } from '../lib/time.ts';
import type { ImageRecord, LayerRecord } from '../store/records.ts';
import type { ContainerConfig, Healthcheck } from './model.ts';

/** The diff ID of a tar without members: a layer that is no layer. */
export const EMPTY_DIFF_ID =
  'sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef' as Digest;

/** What is known of an image that is made here. */
export interface NewImage {
  /** What it stands on, if on anything. */
  parent?: ImageRecord;
  layer: LayerRecord;
  config: ContainerConfig;
  /** Of the container that made it. */
  container?: { id: string; config: ContainerConfig };
  platform: Platform;
  author: string;
  comment: string;
  createdBy: string;
  /** The daemon's release. */
  release: string;
}

interface Step {
  created?: string | undefined;
  author?: string | undefined;
  created_by?: string | undefined;
  comment?: string | undefined;
  empty_layer?: boolean | undefined;
}

/** The record of an image that is made here, with the config that dockerd would write; its layer is here already. */
export function newImage(o: NewImage): ImageRecord {
  const { parent, layer, platform } = o;
  const base = parseImageConfig(parent?.config ?? '{}');
  const isEmpty = parent !== undefined && layer.diffId === EMPTY_DIFF_ID;
  const diffIds = [...(parent?.diffIds ?? []), ...(isEmpty ? [] : [layer.diffId])];
  const created = nowText();
  const step = stepOf({
    created,
    author: o.author,
    created_by: o.createdBy,
    comment: o.comment,
    empty_layer: isEmpty,
  });
  const config = JSON.stringify(
    sorted({
      architecture: platform.architecture,
      ...(o.author && { author: o.author }),
      // of what was committed the last step tells; what was imported says it itself
      ...(parent === undefined && o.comment && { comment: o.comment }),
      config: runConfigOf(o.config),
      ...(o.container && { container: o.container.id }),
      container_config: runConfigOf(o.container?.config ?? emptyConfig()),
      created,
      docker_version: o.release,
      history: [...(base.history ?? []).map(stepOf), step],
      os: platform.os,
      ...(base['os.version'] && { 'os.version': base['os.version'] }),
      rootfs: { type: 'layers', diff_ids: diffIds },
      ...(platform.variant && { variant: platform.variant }),
    }),
  );
  return {
    id: digestOf(config),
    config,
    ...(parent && { parent: parent.id }),
    diffIds,
    sizeBytes: (parent?.sizeBytes ?? 0) + (isEmpty ? 0 : layer.sizeBytes),
    pulledAt: created,
    platform,
  };
}

/** What has nothing to say is left out. */
function stepOf({ created, author, created_by, comment, empty_layer }: Step): Step {
  return {
    ...(created && { created }),
    ...(author && { author }),
    ...(created_by && { created_by }),
    ...(comment && { comment }),
    ...(empty_layer && { empty_layer }),
  };
}

/** A configuration that asks for nothing. */
export function emptyConfig(): ContainerConfig {
  return {
    hostname: '',
    domainname: '',
    user: '',
    attachStdin: false,
    attachStdout: false,
    attachStderr: false,
    exposedPorts: null,
    tty: false,
    openStdin: false,
    stdinOnce: false,
    env: null,
    cmd: null,
    image: '',
    volumes: null,
    workingDir: '',
    entrypoint: null,
    onBuild: null,
    labels: null,
  };
}

/** A container's configuration as an image's file has it, in dockerd's order: most of it stands there even if empty. */
export function runConfigOf(config: ContainerConfig): ImageRunConfig & Record<string, unknown> {
  const {
    exposedPorts,
    healthcheck,
    argsEscaped,
    networkDisabled,
    macAddress,
    stopSignal,
    stopTimeout,
    shell,
  } = config;
  return {
    Hostname: config.hostname,
    Domainname: config.domainname,
    User: config.user,
    AttachStdin: config.attachStdin,
    AttachStdout: config.attachStdout,
    AttachStderr: config.attachStderr,
    ...(Object.keys(exposedPorts ?? {}).length > 0 && { ExposedPorts: keysOf(exposedPorts) }),
    Tty: config.tty,
    OpenStdin: config.openStdin,
    StdinOnce: config.stdinOnce,
    Env: config.env,
    Cmd: config.cmd,
    ...(healthcheck && { Healthcheck: healthcheckOf(healthcheck) }),
    ...(argsEscaped && { ArgsEscaped: true }),
    Image: config.image,
    Volumes: config.volumes && keysOf(config.volumes),
    WorkingDir: config.workingDir,
    Entrypoint: config.entrypoint,
    ...(networkDisabled && { NetworkDisabled: true }),
    ...(macAddress && { MacAddress: macAddress }),
    OnBuild: config.onBuild,
    Labels: config.labels && sorted(config.labels),
    ...(stopSignal && { StopSignal: stopSignal }),
    ...(stopTimeout !== undefined && { StopTimeout: stopTimeout }),
    ...(shell && shell.length > 0 && { Shell: shell }),
  };
}

function healthcheckOf({ test, interval, timeout, startPeriod, startInterval, retries }: Healthcheck) {
  return {
    ...(test && test.length > 0 && { Test: test }),
    ...(interval && { Interval: interval }),
    ...(timeout && { Timeout: timeout }),
    ...(startPeriod && { StartPeriod: startPeriod }),
    ...(startInterval && { StartInterval: startInterval }),
    ...(retries && { Retries: retries }),
  };
}

function keysOf(set: Readonly<Record<string, object>> | null): Record<string, Record<string, never>> {
  return Object.fromEntries(
    Object.keys(set ?? {})
      .sort()
      .map((key) => [key, {}]),
  );
}

/** Go writes maps in the order of their keys. */
function sorted<T>(map: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1)));
}
