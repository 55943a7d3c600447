import { isIP } from 'node:net';
import { fail } from '../errors.ts';
import type { CgroupLimits } from '../host/cgroup-limits.ts';
import type { Platform } from '../lib/platform.ts';
import { parseHostPort, parsePort } from '../lib/port.ts';
import { parseSignal } from '../lib/signals.ts';
import { containerCapabilities } from '../runtime/capabilities.ts';
import { checkLogConfig, type LogDefaults, mergeLogConfig } from './log-drivers.ts';
import type { ContainerConfig, EndpointSettings, Healthcheck, HostConfig, RestartPolicy } from './model.ts';
import { checkMount, checkTmpfsTarget } from './mount-requests.ts';
import { checkNamespaceModes } from './namespaces.ts';
import { type CheckedResources, checkResources, checkSchedulers } from './resource-checks.ts';
import { securityOf } from './security.ts';

/** What a client asks for, already of the right shape. */
export interface CreateRequest {
  name?: string;
  config: ContainerConfig;
  hostConfig: HostConfig;
  endpoints: Record<string, EndpointSettings>;
  platform?: Platform;
  /** Clients of old do not know that read-only binds hold for what is mounted below, too. */
  hasFlatReadOnly?: boolean;
  /** How it wants to be on its networks is looked at only when it starts, but for the spelling of addresses. */
  hasLateEndpoints?: boolean;
}

/** What containers get that do not say. */
export interface ContainerDefaults {
  shmBytes: number;
  ipcMode: 'private' | 'shareable';
  /** What the cgroup version asks for, if undefined. */
  cgroupnsMode: 'host' | 'private' | undefined;
  logs: LogDefaults;
}

/** What the host can do, as far as a create request is checked against it. */
export interface HostLimits {
  cpus: number;
  hostname: string;
  platform: Platform;
  /** OCI runtimes by name, and the one that an empty name means. */
  runtimes: readonly string[];
  defaultRuntime: string;
  /** What containers get that do not say. */
  defaults: ContainerDefaults;
  /** What its kernel can limit. */
  limits: CgroupLimits;
}

/**
 * Checks that need no image, in dockerd's order; throws 400 in its words. Answers the host's part as far as the kernel
 * can give it, and a warning for each wish that it cannot.
 */
export function checkRequest(
  { config, hostConfig }: CreateRequest,
  host: HostLimits,
): CheckedResources<HostConfig> {
  checkConflicts(config, hostConfig);
  checkSchedulers(hostConfig, host.limits);
  checkConfig(config);
  checkHostConfig(hostConfig, host);
  const checked = checkResources(hostConfig, host);
  checkPlatformSettings(hostConfig);
  if (hostConfig.runtime !== '' && !host.runtimes.includes(hostConfig.runtime)) {
    throw fail.unknownRuntime(hostConfig.runtime);
  }
  return checked;
}

/** What dockerd looks at last, when the container has its image and its name. Throws 500. */
export function checkLast(hostConfig: HostConfig): void {
  securityOf(hostConfig);
  // layers have no quotas here, as under an overlay2 on a file system without them
  if (Object.keys(hostConfig.storageOpt ?? {}).length > 0)
    throw fail.host("--storage-opt is supported only for overlay over xfs with 'pquota' mount option");
}

function checkConfig(config: ContainerConfig): void {
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
  for (const port of Object.keys(config.exposedPorts ?? {})) parsePort(port);
  if (config.healthcheck !== undefined) checkHealthcheck(config.healthcheck);
}

/** Durations that are given must be of a millisecond at least. */
function checkHealthcheck({ interval, timeout, startPeriod, startInterval, retries }: Healthcheck): void {
  const durations = { Interval: interval, Timeout: timeout, StartPeriod: startPeriod };
  for (const [name, nanos] of Object.entries({ ...durations, StartInterval: startInterval })) {
    if (nanos !== undefined && nanos !== 0 && nanos < 1_000_000)
      throw fail.badRequest(`${name} in Healthcheck cannot be less than 1ms`);
  }
  if (retries !== undefined && retries < 0)
    throw fail.badRequest('Retries in Healthcheck cannot be negative');
}

function checkConflicts(config: ContainerConfig, hostConfig: HostConfig): void {
  const { networkMode } = hostConfig;
  checkSharedNetwork(config, hostConfig);
  if (networkMode === 'host' && config.macAddress) {
    throw fail.badRequest('conflicting options: mac-address and the network mode');
  }
  if (networkMode === 'host' && (hostConfig.links ?? []).length > 0) {
    throw fail.badRequest(
      "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
    );
  }
  if (hostConfig.utsMode === 'host' && config.hostname !== '') {
    throw fail.badRequest('conflicting options: hostname and the UTS mode');
  }
  if (!['', 'default'].includes(hostConfig.isolation)) {
    throw fail.host(`Invalid isolation: "${hostConfig.isolation}" - linux only supports 'default'`);
  }
  if (!['', 'host', 'private'].includes(hostConfig.cgroupnsMode))
    throw fail.badRequest(`invalid cgroup namespace mode: ${hostConfig.cgroupnsMode}`);
}

/** What belongs to a network cannot be chosen by one who joins another's. */
function checkSharedNetwork({ hostname, exposedPorts }: ContainerConfig, hostConfig: HostConfig): void {
  const [kind, ref = ''] = hostConfig.networkMode.split(':');
  if (kind !== 'container') return;
  if (ref === '') throw fail.badRequest('Invalid network mode: invalid container format container:<name|id>');
  const conflict = (what: string) => fail.badRequest(`conflicting options: ${what}`);
  const { links, dns, extraHosts, portBindings, publishAllPorts } = hostConfig;
  if (hostname !== '') throw conflict('hostname and the network mode');
  if ((links ?? []).length > 0) {
    throw conflict(
      "container type network can't be used with links. This would result in undefined behavior",
    );
  }
  if ((dns ?? []).length > 0) throw conflict('dns and the network mode');
  if ((extraHosts ?? []).length > 0) throw conflict('custom host-to-IP mapping and the network mode');
  if (Object.keys(portBindings ?? {}).length > 0 || publishAllPorts)
    throw conflict('port publishing and the container type network mode');
  if (Object.keys(exposedPorts ?? {}).length > 0)
    throw conflict('port exposing and the container type network mode');
}

function checkHostConfig(hostConfig: HostConfig, host: HostLimits): void {
  const { autoRemove, restartPolicy, extraHosts, portBindings, tmpfs, mounts } = hostConfig;
  checkRestartPolicy(restartPolicy);
  if (autoRemove && restartPolicy.name !== '' && restartPolicy.name !== 'no')
    throw fail.badRequest("can't create 'AutoRemove' container with restart policy");
  for (const mount of mounts ?? []) checkMount(mount);
  for (const entry of extraHosts ?? []) checkExtraHost(entry);
  for (const [port, bindings] of Object.entries(portBindings ?? {})) {
    parsePort(port);
    for (const { hostPort } of bindings ?? []) parseHostPort(hostPort);
  }
  containerCapabilities(hostConfig);
  checkLogConfig(mergeLogConfig(hostConfig.logConfig, host.defaults.logs));
  for (const path of Object.keys(tmpfs ?? {})) checkTmpfsTarget(path);
}

/** Throws 400. */
export function checkRestartPolicy({ name, maximumRetryCount }: RestartPolicy): void {
  if (!['', 'no', 'always', 'on-failure', 'unless-stopped'].includes(name))
    throw fail.unknownRestartPolicy(name);
  if (name !== '' && name !== 'on-failure' && maximumRetryCount !== 0)
    throw fail.misplacedRetryCount(name, maximumRetryCount);
  if (maximumRetryCount < 0) throw fail.negativeRetryCount();
}

function checkExtraHost(entry: string): void {
  const [, name = '', address = ''] = /^([^:]*):(.*)$/s.exec(entry) ?? [];
  if (name === '') throw fail.badRequest(`bad format for add-host: "${entry}"`);
  if (address !== 'host-gateway' && isIP(address) === 0)
    throw fail.badRequest(`invalid IP address in add-host: "${address}"`);
}

function checkPlatformSettings(hostConfig: HostConfig): void {
  const { shmSize, oomScoreAdj } = hostConfig;
  checkNamespaceModes(hostConfig);
  if (shmSize < 0) throw fail.badRequest('SHM size can not be less than 0');
  if (oomScoreAdj < -1000 || oomScoreAdj > 1000) {
    throw fail.badRequest(`Invalid value ${oomScoreAdj}, range for oom score adj is [-1000, 1000]`);
  }
}
