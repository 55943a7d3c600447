import { fail } from '../errors.ts';
import { shortId } from '../lib/ids.ts';
import type { ImageRunConfig } from '../lib/image-config.ts';
import { formatPlatform, matchPlatform, type Platform } from '../lib/platform.ts';
import { parseSignal } from '../lib/signals.ts';
import { nowText, ZERO_TIME } from '../lib/time.ts';
import type { ImageView } from './image-view.ts';
import type { ContainerConfig, ContainerRecord, EndpointSettings, Healthcheck, HostConfig } from './model.ts';

/** What a client asks for, already of the right shape. */
export interface CreateRequest {
  name?: string;
  config: ContainerConfig;
  hostConfig: HostConfig;
  endpoints: Record<string, EndpointSettings>;
  platform?: Platform;
}

/** What the host can do, as far as a create request is checked against it. */
export interface HostLimits {
  cpus: number;
  hostname: string;
  platform: Platform;
  /** OCI runtimes by name, and the one that an empty name means. */
  runtimes: readonly string[];
  defaultRuntime: string;
  cgroupVersion: 1 | 2;
}

const MIN_MEMORY_BYTES = 6 * 1024 * 1024;

/** Checks that need no image, in dockerd's order; throws 400 in its words. */
export function checkRequest({ config, hostConfig }: CreateRequest, host: HostLimits): void {
  checkNetworkMode(config, hostConfig);
  if (config.workingDir !== '' && !config.workingDir.startsWith('/')) {
    throw fail.badRequest(
      `the working directory '${config.workingDir}' is invalid, it needs to be an absolute path`,
    );
  }
  for (const variable of config.env ?? []) {
    if (variable === '' || variable.startsWith('='))
      throw fail.badRequest(`invalid environment variable: ${variable}`);
  }
  if (config.stopSignal) parseSignal(config.stopSignal);
  checkRestartPolicy(hostConfig);
  checkResources(hostConfig, host);
  if (hostConfig.runtime !== '' && !host.runtimes.includes(hostConfig.runtime)) {
    throw fail.unknownRuntime(hostConfig.runtime);
  }
}

function checkNetworkMode(config: ContainerConfig, hostConfig: HostConfig): void {
  const { networkMode } = hostConfig;
  if (networkMode.startsWith('container:') || networkMode === 'container') {
    if (/^container:.+/.test(networkMode)) {
      throw fail.notImplemented('sharing the network of another container is not supported');
    }
    throw fail.badRequest('Invalid network mode: invalid container format container:<name|id>');
  }
  if (networkMode === 'host' && config.macAddress) {
    throw fail.badRequest('conflicting options: mac-address and the network mode');
  }
  if (hostConfig.utsMode === 'host' && config.hostname !== '') {
    throw fail.badRequest('conflicting options: hostname and the UTS mode');
  }
}

function checkRestartPolicy({ restartPolicy: { name, maximumRetryCount }, autoRemove }: HostConfig): void {
  if (!['', 'no', 'always', 'on-failure', 'unless-stopped'].includes(name)) {
    throw fail.badRequest(
      `invalid restart policy: unknown policy '${name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`,
    );
  }
  if (name !== '' && name !== 'on-failure' && maximumRetryCount !== 0) {
    const negative = maximumRetryCount < 0 ? ' and cannot be negative' : '';
    throw fail.badRequest(
      `invalid restart policy: maximum retry count can only be used with 'on-failure'${negative}`,
    );
  }
  if (maximumRetryCount < 0)
    throw fail.badRequest('invalid restart policy: maximum retry count cannot be negative');
  if (autoRemove && name !== '' && name !== 'no') {
    throw fail.badRequest("can't create 'AutoRemove' container with restart policy");
  }
}

function checkResources(hostConfig: HostConfig, host: HostLimits): void {
  const { memory, memorySwap, nanoCpus, cpuPeriod, cpuQuota, oomScoreAdj, shmSize } = hostConfig;
  if (memory !== 0 && memory < MIN_MEMORY_BYTES) throw fail.badRequest('Minimum memory limit allowed is 6MB');
  if (memorySwap > 0 && memory === 0) {
    throw fail.badRequest('You should always set the Memory limit when using Memoryswap limit, see usage');
  }
  if (memory > 0 && memorySwap > 0 && memorySwap < memory) {
    throw fail.badRequest('Minimum memoryswap limit should be larger than memory limit, see usage');
  }
  if (nanoCpus < 0 || nanoCpus > host.cpus * 1e9) {
    throw fail.badRequest(
      `Range of CPUs is from 0.01 to ${host.cpus.toFixed(2)}, as there are only ${host.cpus} CPUs available`,
    );
  }
  if (nanoCpus > 0 && cpuPeriod > 0) {
    throw fail.badRequest('Conflicting options: Nano CPUs and CPU Period cannot both be set');
  }
  if (nanoCpus > 0 && cpuQuota > 0) {
    throw fail.badRequest('Conflicting options: Nano CPUs and CPU Quota cannot both be set');
  }
  if (cpuPeriod !== 0 && (cpuPeriod < 1000 || cpuPeriod > 1_000_000)) {
    throw fail.badRequest(
      'CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)',
    );
  }
  if (cpuQuota > 0 && cpuQuota < 1000)
    throw fail.badRequest('CPU cfs quota can not be less than 1ms (i.e. 1000)');
  if (oomScoreAdj < -1000 || oomScoreAdj > 1000) {
    throw fail.badRequest(`Invalid value ${oomScoreAdj}, range for oom score adj is [-1000, 1000]`);
  }
  if (shmSize < 0) throw fail.badRequest('SHM size can not be less than 0');
}

/** The image serves the wanted platform, or 404 in dockerd's words; without a wish, a warning if it is foreign. */
export function checkPlatform(image: ImageView, request: CreateRequest, host: Platform): string[] {
  const { platform } = image.record;
  if (request.platform !== undefined) {
    if (matchPlatform(request.platform, platform) === undefined) {
      const wanted = formatPlatform(request.platform);
      throw fail.platformMismatch(request.config.image, wanted, formatPlatform(platform));
    }
    return [];
  }
  if (matchPlatform(host, platform) !== undefined) return [];
  return [
    `The requested image's platform (${formatPlatform(platform)}) does not match the detected host platform (${formatPlatform(host)}) and no specific platform was requested`,
  ];
}

/** The record of a new container: the image's configuration under the request's. Throws 400 without a command. */
export function newRecord(
  id: string,
  name: string,
  image: ImageView,
  request: CreateRequest,
  host: HostLimits,
): ContainerRecord {
  const config = mergeConfig(request.config, image.config.config ?? {});
  const hostConfig = withDefaults(request.hostConfig, host);
  const hostname =
    hostConfig.networkMode === 'host' || hostConfig.utsMode === 'host' ? host.hostname : shortId(id);
  if ((config.entrypoint ?? []).length + (config.cmd ?? []).length === 0) throw fail.noCommand();
  return {
    id,
    name,
    createdAt: nowText(),
    imageId: image.record.id,
    platform: image.record.platform,
    diffIds: image.record.diffIds,
    config: { ...config, hostname: config.hostname === '' ? hostname : config.hostname },
    hostConfig,
    endpoints: endpointsOf(request, hostConfig),
    mounts: [],
    ports: {},
    state: {
      status: 'created',
      pid: 0,
      exitCode: 0,
      error: '',
      oomKilled: false,
      startedAt: ZERO_TIME,
      finishedAt: ZERO_TIME,
    },
    restartCount: 0,
    isStoppedByUser: false,
    runtime: hostConfig.runtime,
  };
}

function withDefaults(hostConfig: HostConfig, host: HostLimits): HostConfig {
  const { memory, memorySwap } = hostConfig;
  return {
    ...hostConfig,
    networkMode: hostConfig.networkMode === '' ? 'default' : hostConfig.networkMode,
    runtime: hostConfig.runtime === '' ? host.defaultRuntime : hostConfig.runtime,
    ipcMode: hostConfig.ipcMode === '' ? 'private' : hostConfig.ipcMode,
    cgroupnsMode: hostConfig.cgroupnsMode || (host.cgroupVersion === 1 ? 'host' : 'private'),
    shmSize: hostConfig.shmSize === 0 ? 64 * 1024 * 1024 : hostConfig.shmSize,
    // dockerd: as much swap as memory, where only memory is limited
    memorySwap: memory > 0 && memorySwap === 0 ? memory * 2 : memorySwap,
    pidsLimit: hostConfig.pidsLimit !== null && hostConfig.pidsLimit <= 0 ? null : hostConfig.pidsLimit,
    logConfig: hostConfig.logConfig.type === '' ? { type: 'json-file', config: {} } : hostConfig.logConfig,
  };
}

function endpointsOf(
  { endpoints }: CreateRequest,
  { networkMode }: HostConfig,
): Record<string, EndpointSettings> {
  const name = networkMode === 'default' ? 'bridge' : networkMode;
  const given = endpoints[name] ?? endpoints[networkMode];
  return { [name]: given ?? emptyEndpoint() };
}

/** An endpoint that was not asked for in any detail and is not up. */
export function emptyEndpoint(): EndpointSettings {
  return {
    ipamConfig: null,
    links: null,
    aliases: null,
    driverOpts: null,
    networkId: '',
    endpointId: '',
    gateway: '',
    ipAddress: '',
    ipPrefixLen: 0,
    ipv6Gateway: '',
    globalIPv6Address: '',
    globalIPv6PrefixLen: 0,
    macAddress: '',
  };
}

/** dockerd's runconfig merge: the request wins, maps and lists of variables are united. */
export function mergeConfig(wanted: ContainerConfig, image: ImageRunConfig): ContainerConfig {
  const keepsEntrypoint = wanted.entrypoint === null || wanted.entrypoint.length === 0;
  // an entrypoint of [""] resets the image's; a new entrypoint drops the image's command
  const isReset = wanted.entrypoint?.length === 1 && wanted.entrypoint[0] === '';
  const entrypoint = isReset ? null : keepsEntrypoint ? (image.Entrypoint ?? null) : wanted.entrypoint;
  const cmd = (wanted.cmd?.length ?? 0) === 0 && keepsEntrypoint ? (image.Cmd ?? null) : wanted.cmd;
  const healthcheck = mergeHealthcheck(wanted.healthcheck, image.Healthcheck);
  const stopSignal = wanted.stopSignal || image.StopSignal;
  const shell = wanted.shell ?? image.Shell ?? undefined;
  return {
    ...wanted,
    user: wanted.user || (image.User ?? ''),
    exposedPorts: unite(image.ExposedPorts, wanted.exposedPorts),
    env: mergeEnv(wanted.env, image.Env),
    entrypoint,
    cmd,
    workingDir: wanted.workingDir || (image.WorkingDir ?? ''),
    volumes: unite(image.Volumes, wanted.volumes),
    labels: unite(image.Labels, wanted.labels) ?? {},
    onBuild: wanted.onBuild ?? image.OnBuild ?? null,
    ...(healthcheck && { healthcheck }),
    ...(stopSignal && { stopSignal }),
    ...(shell && { shell }),
  };
}

function unite<T>(
  below: Record<string, T> | null | undefined,
  above: Record<string, T> | null,
): Record<string, T> | null {
  if (!below && !above) return null;
  return { ...below, ...above };
}

function mergeEnv(wanted: string[] | null, image: readonly string[] | null | undefined): string[] {
  const nameOf = (variable: string) => variable.split('=', 1)[0];
  const own = new Set((wanted ?? []).map(nameOf));
  return [...(wanted ?? []), ...(image ?? []).filter((variable) => !own.has(nameOf(variable)))];
}

function mergeHealthcheck(
  wanted: Healthcheck | undefined,
  image: ImageRunConfig['Healthcheck'],
): Healthcheck | undefined {
  if (!image) return wanted;
  const below: Healthcheck = {
    ...(image.Test && { test: image.Test }),
    ...(image.Interval && { interval: image.Interval }),
    ...(image.Timeout && { timeout: image.Timeout }),
    ...(image.Retries && { retries: image.Retries }),
    ...(image.StartPeriod && { startPeriod: image.StartPeriod }),
    ...(image.StartInterval && { startInterval: image.StartInterval }),
  };
  const given = Object.entries(wanted ?? {}).filter(([key, value]) =>
    key === 'test' ? Array.isArray(value) && value.length > 0 : value !== 0,
  );
  return { ...below, ...Object.fromEntries(given) };
}
