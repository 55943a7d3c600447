import { Failure, fail } from '../errors.ts';
import type { BundleSpec } from '../runtime/spec.ts';
import { isRunning } from './container-records.ts';
import type { ContainerRecord, HostConfig } from './model.ts';

/** Finds a container by ID, a part of it, or name; throws 404. */
export type FindContainer = (ref: string) => ContainerRecord;

/** The containers whose namespaces another one joins. They ran a moment ago. */
export interface Donors {
  readonly network?: ContainerRecord;
  readonly ipc?: ContainerRecord;
  readonly pid?: ContainerRecord;
}

/** What of `container:NAME` names the other container; undefined for any other mode. */
export function donorOf(mode: string): string | undefined {
  return mode.startsWith('container:') ? mode.slice('container:'.length) : undefined;
}

/** The network that a container is on if it names no other; undefined for one that joins another container's. */
export function mainNetworkOf({ networkMode }: Pick<HostConfig, 'networkMode'>): string | undefined {
  if (donorOf(networkMode) !== undefined) return undefined;
  return networkMode === 'default' || networkMode === '' ? 'bridge' : networkMode;
}

/** The containers whose namespaces it is to join, as far as they are there. */
export function donorsOf(
  { hostConfig: { networkMode, ipcMode, pidMode } }: ContainerRecord,
  find: FindContainer,
): ContainerRecord[] {
  return [networkMode, ipcMode, pidMode].flatMap((mode) => {
    const ref = donorOf(mode);
    if (ref === undefined) return [];
    try {
      return [find(ref)];
    } catch (cause) {
      if (cause instanceof Failure) return [];
      throw cause;
    }
  });
}

/** Modes that are none; throws 400 in dockerd's words. */
export function checkNamespaceModes({ ipcMode, pidMode, utsMode }: HostConfig): void {
  const isDonor = (mode: string) => (donorOf(mode) ?? '') !== '';
  if (!['', 'none', 'private', 'shareable', 'host'].includes(ipcMode) && !isDonor(ipcMode))
    throw fail.badRequest(`invalid IPC mode: ${ipcMode}`);
  if (pidMode !== '' && pidMode !== 'host' && !isDonor(pidMode))
    throw fail.badRequest(`invalid PID mode: ${pidMode}`);
  if (utsMode !== '' && utsMode !== 'host') throw fail.badRequest(`invalid UTS mode: ${utsMode}`);
}

/**
 * Other containers are kept by ID: they may be renamed. A network may be joined of one that is yet to be made; an IPC
 * or PID namespace may not, and throws 400.
 */
export function settleDonors(hostConfig: HostConfig, find: FindContainer): HostConfig {
  const settle = (mode: string, mayLack: boolean): string => {
    const ref = donorOf(mode);
    if (ref === undefined) return mode;
    try {
      return `container:${find(ref).id}`;
    } catch (cause) {
      if (mayLack) return mode;
      throw cause instanceof Failure ? fail.badRequest(cause.message) : cause;
    }
  };
  return {
    ...hostConfig,
    networkMode: settle(hostConfig.networkMode, true),
    ipcMode: settle(hostConfig.ipcMode, false),
    pidMode: settle(hostConfig.pidMode, false),
  };
}

/** The other containers that a start needs. Throws in dockerd's words where one is not there, or does not run. */
export function findDonors(record: ContainerRecord, find: FindContainer): Donors {
  const { networkMode, ipcMode, pidMode } = record.hostConfig;
  const [networkRef, ipcRef, pidRef] = [networkMode, ipcMode, pidMode].map(donorOf);
  const network = networkRef === undefined ? undefined : networkDonor(record, networkRef, find);
  const ipc =
    ipcRef === undefined
      ? undefined
      : joined('IPC', ipcRef, () => shareable(ipcRef, running(ipcRef, find), find));
  const pid = pidRef === undefined ? undefined : joined('PID', pidRef, () => running(pidRef, find));
  return { ...(network && { network }), ...(ipc && { ipc }), ...(pid && { pid }) };
}

function networkDonor(record: ContainerRecord, ref: string, find: FindContainer): ContainerRecord {
  const donor = find(ref);
  if (donor.id === record.id) throw fail.host('cannot join own network');
  if (donor.state.status === 'restarting') throw fail.execRestarting(ref);
  if (!isRunning(donor)) throw fail.joinNotRunning(ref);
  return donor;
}

function running(ref: string, find: FindContainer): ContainerRecord {
  const donor = find(ref);
  if (donor.state.status === 'restarting') throw fail.execRestarting(ref);
  if (!isRunning(donor)) throw fail.notRunning(ref);
  return donor;
}

function shareable(ref: string, donor: ContainerRecord, find: FindContainer): ContainerRecord {
  if (sharedMemoryOf(donor, find) !== undefined) return donor;
  throw fail.badRequest(
    `container ${ref}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)`,
  );
}

function joined(kind: 'IPC' | 'PID', ref: string, look: () => ContainerRecord): ContainerRecord {
  try {
    return look();
  } catch (cause) {
    if (!(cause instanceof Failure)) throw cause;
    // dockerd finds the one before the process is described, and the other while it is: the latter is its own fault
    const status = kind === 'PID' ? 500 : cause.status === 404 ? 400 : cause.status;
    throw fail.cannotJoin(kind, ref, { status, message: cause.message });
  }
}

/** Whose /dev/shm a container has that others may have too: a container's by its ID, or the host's. */
export function sharedMemoryOf(
  { id, hostConfig: { ipcMode }, mounts }: ContainerRecord,
  find: FindContainer,
): { containerId: string } | 'host' | undefined {
  if (ipcMode === 'host') return 'host';
  if (ipcMode === 'shareable')
    return mounts.some(({ destination }) => destination === '/dev/shm') ? undefined : { containerId: id };
  const donor = donorOf(ipcMode);
  return donor === undefined ? undefined : sharedMemoryOf(find(donor), find);
}

/** The namespaces of a container as its bundle has them. */
export function namespacesOf(
  { networkMode, ipcMode, pidMode, utsMode, cgroupnsMode }: HostConfig,
  donors: Donors,
): BundleSpec['namespaces'] {
  const kind = (mode: string, name: string, donor: ContainerRecord | undefined) => {
    if (donor !== undefined) return { path: `/proc/${donor.state.pid}/ns/${name}` };
    return mode === 'host' ? 'host' : 'private';
  };
  return {
    pid: kind(pidMode, 'pid', donors.pid),
    ipc: kind(ipcMode, 'ipc', donors.ipc),
    uts: kind(utsMode, 'uts', undefined),
    network: kind(networkMode, 'net', donors.network),
    cgroup: cgroupnsMode === 'private' ? 'private' : 'host',
  };
}
