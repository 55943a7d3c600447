import { isUp, shownStatus } from '../engine/container-status.ts';
import type { Health } from '../engine/health-rules.ts';
import type { ContainerRecord, MountPoint } from '../engine/model.ts';
import { humanDuration } from '../lib/human-duration.ts';
import { parseNanos } from '../lib/time.ts';
import { inspectShapes } from './container-gates.ts';
import { containerConfig, hostConfig, portMap } from './container-wire.ts';
import { briefEndpointWire, endpointWire } from './endpoint-view.ts';
import type { ContainerSummary, ContainerView } from './engine-views.ts';
import { shape, type Wire } from './shapes.ts';
import type { Axes } from './versions.ts';

/** The answer to `GET /containers/ID/json`. */
export function inspectWire(view: ContainerView, o: { axes: Axes; execIds: readonly string[] }): Wire {
  const { record, health, paths, sizes } = view;
  const [path = '', ...args] = commandOf(record);
  const wire: Wire = {
    Id: record.id,
    Created: record.createdAt,
    Path: path,
    Args: args,
    State: stateWire(record, health),
    Image: record.imageId,
    ResolvConfPath: paths.resolv,
    HostnamePath: paths.hostname,
    HostsPath: paths.hosts,
    LogPath: paths.log,
    Name: `/${record.name}`,
    RestartCount: record.restartCount,
    Driver: 'overlay2',
    Platform: record.platform.os,
    MountLabel: '',
    ProcessLabel: '',
    AppArmorProfile: '',
    ExecIDs: o.execIds.length === 0 ? null : o.execIds,
    HostConfig: hostConfig.encode(record.hostConfig),
    GraphDriver: {
      Data: {
        LowerDir: paths.lower.join(':'),
        MergedDir: paths.merged,
        UpperDir: paths.upper,
        WorkDir: paths.work,
      },
      Name: 'overlay2',
    },
    ...(sizes && { SizeRw: sizes.rwBytes, SizeRootFs: sizes.rootBytes }),
    Mounts: record.mounts.map(mountWire),
    Config: containerConfig.encode(record.config),
    NetworkSettings: networkWire(record, o.axes),
  };
  return shape(wire, inspectShapes, o.axes);
}

/** One element of the answer to `GET /containers/json`. */
export function summaryWire(
  { record, names, imageName, health, sizes }: ContainerSummary,
  o: { nowMs: number; axes: Axes },
): Wire {
  return {
    Id: record.id,
    Names: names,
    Image: imageName,
    ImageID: record.imageId,
    Command: commandOf(record)
      .map((word, at) => (at > 0 && word.includes(' ') ? `'${word}'` : word))
      .join(' '),
    Created: Math.floor(millisOf(record.createdAt) / 1000),
    Ports: isUp(record) ? portsWire(record) : [],
    // Go leaves out sizes of 0
    ...(sizes && sizes.rwBytes > 0 && { SizeRw: sizes.rwBytes }),
    ...(sizes && sizes.rootBytes > 0 && { SizeRootFs: sizes.rootBytes }),
    Labels: record.config.labels,
    State: shownStatus(record),
    Status: statusText(record, health, o.nowMs),
    HostConfig: { NetworkMode: record.hostConfig.networkMode },
    NetworkSettings: {
      Networks: Object.fromEntries(
        Object.entries(record.endpoints).map(([name, endpoint]) => [
          name,
          briefEndpointWire(endpoint, o.axes),
        ]),
      ),
    },
    Mounts: record.mounts.map(mountWire),
  };
}

/** Program and arguments: the entrypoint's words, then the command's. */
function commandOf({ config }: ContainerRecord): string[] {
  return [...(config.entrypoint ?? []), ...(config.cmd ?? [])];
}

/** The column `STATUS` of `docker ps`. */
function statusText(record: ContainerRecord, health: Health | undefined, nowMs: number): string {
  const { state } = record;
  const ago = (time: string) => humanDuration(nowMs - millisOf(time));
  switch (shownStatus(record)) {
    case 'running':
      return `Up ${ago(state.startedAt)}${health ? ` (${healthText(health)})` : ''}`;
    case 'paused':
      return `Up ${ago(state.startedAt)} (Paused)`;
    case 'restarting':
      return `Restarting (${state.exitCode}) ${ago(state.finishedAt)} ago`;
    case 'removing':
      return 'Removal In Progress';
    case 'dead':
      return 'Dead';
    case 'created':
      return 'Created';
    default:
      return `Exited (${state.exitCode}) ${ago(state.finishedAt)} ago`;
  }
}

function healthText({ status }: Health): string {
  return status === 'starting' ? 'health: starting' : status;
}

function stateWire(record: ContainerRecord, health: Health | undefined): Wire {
  const { state } = record;
  return {
    Status: shownStatus(record),
    Running: isUp(record),
    Paused: state.status === 'paused',
    Restarting: shownStatus(record) === 'restarting',
    OOMKilled: state.oomKilled,
    Dead: state.status === 'dead',
    Pid: state.pid,
    ExitCode: state.exitCode,
    Error: state.error,
    StartedAt: state.startedAt,
    FinishedAt: state.finishedAt,
    ...(health && { Health: healthWire(health) }),
  };
}

function healthWire({ status, failingStreak, log }: Health): Wire {
  return {
    Status: status,
    FailingStreak: failingStreak,
    Log: log.map(({ start, end, exitCode, output }) => ({
      Start: start,
      End: end,
      ExitCode: exitCode,
      Output: output,
    })),
  };
}

function mountWire(mount: MountPoint): Wire {
  return {
    Type: mount.type,
    ...(mount.name !== undefined && { Name: mount.name }),
    Source: mount.source,
    Destination: mount.destination,
    ...(mount.driver !== undefined && { Driver: mount.driver }),
    Mode: mount.mode,
    RW: mount.isWritable,
    Propagation: mount.propagation,
  };
}

function networkWire(record: ContainerRecord, axes: Axes): Wire {
  const { bridge } = record.endpoints;
  return {
    Bridge: '',
    // a container's sandbox is that of its process: there is one while there is the other
    SandboxID: isUp(record) ? record.id : '',
    SandboxKey: record.state.pid > 0 ? `/proc/${record.state.pid}/ns/net` : '',
    Ports: isUp(record) ? portMap.encode(record.ports) : {},
    HairpinMode: false,
    LinkLocalIPv6Address: '',
    LinkLocalIPv6PrefixLen: 0,
    SecondaryIPAddresses: null,
    SecondaryIPv6Addresses: null,
    EndpointID: bridge?.endpointId ?? '',
    Gateway: bridge?.gateway ?? '',
    GlobalIPv6Address: bridge?.globalIPv6Address ?? '',
    GlobalIPv6PrefixLen: bridge?.globalIPv6PrefixLen ?? 0,
    IPAddress: bridge?.ipAddress ?? '',
    IPPrefixLen: bridge?.ipPrefixLen ?? 0,
    IPv6Gateway: bridge?.ipv6Gateway ?? '',
    MacAddress: bridge?.macAddress ?? '',
    Networks: Object.fromEntries(
      Object.entries(record.endpoints).map(([name, endpoint]) => [
        name,
        endpointWire(record, name, endpoint, axes),
      ]),
    ),
  };
}

function portsWire({ ports }: ContainerRecord): Wire[] {
  return Object.entries(ports).flatMap(([port, bindings]) => {
    const [number, protocol = 'tcp'] = port.split('/');
    const inside = { PrivatePort: Number(number) };
    if (bindings === null || bindings.length === 0) return [{ ...inside, Type: protocol }];
    return bindings.map(({ hostIp, hostPort }) => ({
      ...(hostIp !== '' && { IP: hostIp }),
      ...inside,
      PublicPort: Number(hostPort),
      Type: protocol,
    }));
  });
}

/** Exact to the millisecond; the zero time is the year 1. */
function millisOf(time: string): number {
  return Number((parseNanos(time) ?? 0n) / 1_000_000n);
}
