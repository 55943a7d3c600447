import { Failure, fail } from '../errors.ts';
import type { Runtime } from '../runtime/runtime.ts';
import { resourcesOf } from './bundle-spec.ts';
import { checkRestartPolicy, type HostLimits } from './container-checks.ts';
import { tellContainer } from './container-events.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import type { Events } from './events.ts';
import type { Life } from './life.ts';
import type { ContainerRecord, HostConfig, Resources } from './model.ts';
import { checkResources } from './resource-checks.ts';

/** What is to change: what is 0, empty or null stays as it is, and so does a policy without a name. */
export type UpdateWish = Resources & Pick<HostConfig, 'restartPolicy'>;

/** Changes the limits and the restart policy of containers while they live. */
export class ContainerUpdates {
  readonly #parts: UpdateParts;

  constructor(parts: UpdateParts) {
    this.#parts = parts;
  }

  /** Throws 400 or 409 in dockerd's words, 500 with the runtime's; then everything is as it was. */
  async update(ref: string, wish: UpdateWish): Promise<{ warnings: string[] }> {
    const { records, life, host } = this.#parts;
    const { id } = records.find(ref);
    checkRestartPolicy(wish.restartPolicy);
    const checked = checkResources(wish, { ...host, isUpdate: true });
    await life
      .change(id, (record) => this.#apply(record, checked.hostConfig))
      .catch((cause: unknown) => {
        if (!(cause instanceof Failure) || cause.code === 'NO_SUCH_CONTAINER') throw cause;
        throw fail.cannotUpdate(id, cause);
      });
    return { warnings: checked.warnings };
  }

  async #apply(record: ContainerRecord, wish: UpdateWish): Promise<void> {
    const { records, runtime, events } = this.#parts;
    if (record.state.status === 'removing' || record.state.status === 'dead')
      throw fail.updateConflict('container is marked for removal and cannot be "update"');
    const updated = await records.update({ ...record, hostConfig: changed(record.hostConfig, wish) });
    if (isRunning(record)) {
      try {
        await runtime.update(record.id, limitsIn(wish));
      } catch (cause) {
        await records.update(record);
        throw cause;
      }
    }
    tellContainer(events, updated, 'update');
  }
}

interface UpdateParts {
  records: ContainerRecords;
  life: Pick<Life, 'change'>;
  runtime: Pick<Runtime, 'update'>;
  events: Events;
  host: Pick<HostLimits, 'cpus' | 'limits'>;
}

/** The limits that an update can change; the others it does not look at. */
const mutable = [
  'blkioWeight',
  'cpuShares',
  'nanoCpus',
  'cpuPeriod',
  'cpuQuota',
  'cpusetCpus',
  'cpusetMems',
  'memory',
  'memorySwap',
  'memoryReservation',
  'kernelMemory',
  'cpuRealtimePeriod',
  'cpuRealtimeRuntime',
] as const;

/** In dockerd's order (moby, Container.UpdateContainer). Throws 409. */
function changed(before: HostConfig, wish: UpdateWish): HostConfig {
  checkConflicts(before, wish);
  const { restartPolicy, pidsLimit } = wish;
  const limits = Object.fromEntries(mutable.filter((key) => wish[key]).map((key) => [key, wish[key]]));
  return {
    ...before,
    ...limits,
    ...(pidsLimit !== null && { pidsLimit }),
    ...(restartPolicy.name !== '' && { restartPolicy }),
  };
}

function checkConflicts(before: HostConfig, { nanoCpus, cpuPeriod, cpuQuota, ...wish }: UpdateWish): void {
  const setAlready = (what: string, other: string) =>
    fail.updateConflict(`Conflicting options: ${what} cannot be updated as ${other} has already been set`);
  if (nanoCpus > 0 && before.cpuPeriod > 0) throw setAlready('Nano CPUs', 'CPU Period');
  if (nanoCpus > 0 && before.cpuQuota > 0) throw setAlready('Nano CPUs', 'CPU Quota');
  if (cpuPeriod > 0 && before.nanoCpus > 0) throw setAlready('CPU Period', 'NanoCPUs');
  if (cpuQuota > 0 && before.nanoCpus > 0) throw setAlready('CPU Quota', 'NanoCPUs');
  if (wish.memory !== 0 && wish.memory > before.memorySwap && wish.memorySwap === 0) {
    throw fail.updateConflict(
      'Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time',
    );
  }
  const { name } = wish.restartPolicy;
  if (before.autoRemove && name !== '' && name !== 'no')
    throw fail.updateConflict(
      'Restart policy cannot be updated because AutoRemove is enabled for the container',
    );
}

function limitsIn(wish: UpdateWish) {
  const limits = Object.fromEntries(mutable.map((key) => [key, wish[key]]));
  const isUnlimited = wish.pidsLimit !== null && wish.pidsLimit <= 0;
  return { ...resourcesOf({ ...wish, ...limits }), ...(isUnlimited && { pidsLimit: -1 }) };
}
