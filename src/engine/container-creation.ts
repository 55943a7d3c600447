import { fail } from '../errors.ts';
import { shortId } from '../lib/ids.ts';
import type { ImageRunConfig } from '../lib/image-config.ts';
import { formatPlatform, matchPlatform, type Platform } from '../lib/platform.ts';
import { nowText, ZERO_TIME } from '../lib/time.ts';
import { defaultMaskedPaths, defaultReadonlyPaths } from './bundle-spec.ts';
import type { CreateRequest, HostLimits } from './container-checks.ts';
import type { ImageView } from './image-view.ts';
import { mergeLogConfig } from './log-drivers.ts';
import type { ContainerConfig, ContainerRecord, EndpointSettings, Healthcheck, HostConfig } from './model.ts';
import { mainNetworkOf } from './namespaces.ts';

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

/** A device in the field is better off with a container on a damaged image than with none. */
export function damageWarnings(isSound: boolean, image: string): string[] {
  return isSound ? [] : [`The image is damaged: pull it again, or run 'skerry verify --repair ${image}'`];
}

/**
 * The record of a new container: the image's configuration under the request's. `networkName` gives the name of a
 * network for whatever it is called. Throws 400 without a command.
 */
export function newRecord(
  id: string,
  name: string,
  image: ImageView,
  request: CreateRequest,
  { host, networkName }: { host: HostLimits; networkName: (ref: string) => string },
): ContainerRecord {
  const config = mergeConfig(request.config, image.config.config ?? {});
  const hostConfig = withDefaults(request.hostConfig, host);
  const hostname = hostConfig.networkMode === 'host' ? host.hostname : shortId(id);
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
    endpoints: endpointsOf(request, hostConfig, networkName),
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
  const { memory, memorySwap, privileged } = hostConfig;
  return {
    ...hostConfig,
    networkMode: hostConfig.networkMode === '' ? 'default' : hostConfig.networkMode,
    runtime: hostConfig.runtime === '' ? host.defaultRuntime : hostConfig.runtime,
    ipcMode: hostConfig.ipcMode || host.defaults.ipcMode,
    cgroupnsMode: hostConfig.cgroupnsMode || cgroupnsModeOf(hostConfig, host),
    shmSize: hostConfig.shmSize || host.defaults.shmBytes,
    // dockerd: as much swap as memory, where only memory is limited
    memorySwap: memory > 0 && memorySwap === 0 ? memory * 2 : memorySwap,
    oomKillDisable: hostConfig.oomKillDisable ?? false,
    maskedPaths: hostConfig.maskedPaths ?? (privileged ? null : defaultMaskedPaths),
    readonlyPaths: hostConfig.readonlyPaths ?? (privileged ? null : defaultReadonlyPaths),
    pidsLimit: hostConfig.pidsLimit !== null && hostConfig.pidsLimit <= 0 ? null : hostConfig.pidsLimit,
    securityOpt: hostConfig.securityOpt ?? defaultSecurityOpt(hostConfig),
    logConfig: mergeLogConfig(hostConfig.logConfig, host.defaults.logs),
  };
}

/** dockerd: who shares so much with the host is not labelled apart from it. */
function defaultSecurityOpt({ privileged, ipcMode, pidMode }: HostConfig): string[] | null {
  return privileged || ipcMode === 'host' || pidMode === 'host' ? ['label=disable'] : null;
}

/** With cgroup v1 a privileged container is in the host's, whatever the default. */
function cgroupnsModeOf({ privileged }: HostConfig, { defaults, limits }: HostLimits): 'host' | 'private' {
  if (limits.version === 1) return privileged ? 'host' : (defaults.cgroupnsMode ?? 'host');
  return defaults.cgroupnsMode ?? 'private';
}

/** Who says where to be is there and nowhere else; who does not, on the network that the mode names. */
function endpointsOf(
  { endpoints, config }: CreateRequest,
  hostConfig: HostConfig,
  networkName: (ref: string) => string,
): Record<string, EndpointSettings> {
  const main = mainNetworkOf(hostConfig);
  if (main === undefined || config.networkDisabled) return {};
  const given = Object.entries(endpoints);
  if (given.length === 0) return { [networkName(main)]: emptyEndpoint() };
  return Object.fromEntries(
    given.map(([ref, endpoint]) => [
      networkName(ref === 'default' ? 'bridge' : ref),
      wantedEndpoint(endpoint),
    ]),
  );
}

/** What a client may say of an endpoint; the rest of what it sends is what the engine once told it. */
export function wantedEndpoint(given: EndpointSettings): EndpointSettings {
  const { macAddress } = given;
  if (macAddress === '') return downEndpoint(given);
  return { ...downEndpoint(given), macAddress, wantedMacAddress: macAddress };
}

/** An endpoint that is down: the wish stays, what was in force goes. */
export function downEndpoint(endpoint: EndpointSettings): EndpointSettings {
  const { ipamConfig, links, aliases, driverOpts, networkId, wantedMacAddress } = endpoint;
  return {
    ...emptyEndpoint(),
    ...{ ipamConfig, links, aliases, driverOpts, networkId },
    ...(wantedMacAddress !== undefined && { wantedMacAddress }),
  };
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
  };
}

function unite<T>(
  below: Record<string, T> | null | undefined,
  above: Record<string, T> | null,
): Record<string, T> | null {
  if (Object.keys(above ?? {}).length === 0) return below ?? null; // Go tells none from empty: the image's it is
  return { ...below, ...above };
}

function mergeEnv(wanted: string[] | null, image: readonly string[] | null | undefined): string[] | null {
  if ((wanted ?? []).length === 0) return image ? [...image] : null;
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
