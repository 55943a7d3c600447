import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ensureDirectory, removeTree } from '../host/files.ts';
import type { Log } from '../lib/log.ts';
import { nowText } from '../lib/time.ts';
import type { LiveContainer, Networks } from '../network/networks.ts';
import type { ContainerExit, Runtime } from '../runtime/runtime.ts';
import type { ImageRecord } from '../store/records.ts';
import type { Sidecars } from '../store/sidecars.ts';
import type { Store } from '../store/store.ts';
import { recordsOf } from '../store/tables.ts';
import type { ContainerNetworks } from './container-networks.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import type { Images } from './images.ts';
import type { Launcher } from './launcher.ts';
import type { LayerShelf } from './layer-shelf.ts';
import type { Life } from './life.ts';
import type { ContainerRecord } from './model.ts';
import type { MountSetup } from './mount-setup.ts';
import { wantsStartAtBoot } from './restart-policy.ts';
import { inStartOrder } from './start-order.ts';
import type { Volumes } from './volumes.ts';

/** A process whose end nobody saw: as if it had been killed. */
const UNKNOWN_EXIT = 137;

/** What the engine does before it serves: brings records, kernel and disk to agree, the kernel believed first. */
export class Recovery {
  readonly #o: RecoveryParts;

  constructor(parts: RecoveryParts) {
    this.#o = parts;
  }

  /** Settles the past. After it every record tells the truth and nothing is left that belongs to no one. */
  async run(): Promise<void> {
    const began = performance.now();
    const { records, store, shelf, images, sidecars, volumes, mounts, log } = this.#o;
    const { needsRebuild } = store;
    await shelf.recover({ adoptOrphans: needsRebuild });
    if (needsRebuild) await images.rebuild(sidecars.images());
    else await images.mendCopies(sidecars.images());
    await sidecars.sweep(new Set((await recordsOf(store.table<ImageRecord>('images'))).map(({ id }) => id)));
    // what a removal has begun to take with it is nobody's any more
    const users = records.all().filter(({ state }) => state.takesVolumes !== true);
    const mounted = new Set(users.flatMap(({ mounts }) => mounts.flatMap(({ name }) => name ?? [])));
    await volumes.recover({ adoptOrphans: needsRebuild, mounted });
    // only now: what is not adopted yet would count as a leftover the next time
    if (needsRebuild) await store.commit([store.endRebuild()]);
    await this.#settleContainers();
    await mounts.recover();
    await this.#mendContainerCopies();
    await this.#removeStrangers();
    await shelf.collect();
    log.info({ containers: records.size, ms: Math.round(performance.now() - began) }, 'recovered');
  }

  async #settleContainers(): Promise<void> {
    const { records } = this.#o;
    const live: LiveContainer[] = [];
    const named: ContainerRecord[] = [];
    const ended: [ContainerRecord, ContainerExit][] = [];
    for (const record of records.all()) {
      if (isGoing(record)) continue;
      await this.#each(record.id, async () => {
        const alive = await this.#adopt(record);
        if (alive === undefined) {
          const exit = await this.#endingOf(record);
          if (exit !== undefined) ended.push([record, exit]);
          else await this.#tidy(record);
          return;
        }
        if (alive.state.isHeld === true) await this.#o.life.freezer.release(record.id);
        live.push(await this.#o.containerNetworks.liveOf(alive));
        named.push(alive);
      });
    }
    await this.#o.networks.recover(live);
    await this.#o.containerNetworks.name(named);
    for (const [record, exit] of ended)
      await this.#each(record.id, () => this.#o.life.settleExit(record, exit));
    for (const record of records.all()) {
      // what removes itself has had its run, or has lost the client that was about to start it
      const isSpent = record.hostConfig.autoRemove && !isRunning(record);
      if (isGoing(record) || isSpent) await this.#each(record.id, () => this.#o.life.settleRemoval(record));
    }
  }

  /** Writes what is damaged or gone of the copies of container records once more. */
  async #mendContainerCopies(): Promise<void> {
    const { records, sidecars, launcher, log } = this.#o;
    const whole = new Set<unknown>();
    for await (const copy of sidecars.containers()) if ('id' in copy) whole.add(copy.id);
    for (const record of records.all()) {
      const { id } = record;
      if (whole.has(id)) continue;
      log.warn({ container: id }, 'the copy of a container record was lost: writing it again');
      await this.#each(id, async () => {
        await ensureDirectory(launcher.directoryOf(id), 0o710);
        await sidecars.removeContainer(id);
        await sidecars.writeContainer(id, record);
      });
    }
  }

  /** One container that cannot be settled must not keep the daemon, and with it all others, down. */
  async #each(id: string, settle: () => Promise<void>): Promise<void> {
    try {
      await settle();
    } catch (err) {
      this.#o.log.error({ container: id, err }, 'could not settle what the last daemon left of a container');
    }
  }

  /** Starts what the restart policies want up; each on its own, a failure is logged and told by inspect. */
  async applyPolicies(): Promise<void> {
    for (const record of inStartOrder(this.#o.records)) {
      if (record.state.status === 'running' || record.state.status === 'paused' || !wantsStartAtBoot(record))
        continue;
      try {
        await this.#o.life.start(record.id);
      } catch (err) {
        this.#o.log.error(
          { container: record.id, err },
          'could not start a container that its policy wants up',
        );
      }
    }
  }

  /** The record as the kernel has it, if the container has a process that was started. */
  async #adopt(record: ContainerRecord): Promise<ContainerRecord | undefined> {
    const found = await this.#o.runtime.find(record.id);
    if (found === undefined || found.status === 'stopped' || found.status === 'created') return undefined;
    if (record.state.status === found.status && record.state.pid === found.pid) return record;
    const { containerNetworks } = this.#o;
    const { endpoints } = await containerNetworks.liveOf(record);
    const { state } = record;
    return this.#o.records.update({
      ...record,
      ...(endpoints.length > 0 && containerNetworks.connectionsOf(record, endpoints)),
      state: {
        ...state,
        status: found.status,
        pid: found.pid,
        // of a run that no record shows: it was just being started, or the records were lost
        ...(!isRunning(record) && { startedAt: nowText(), exitCode: 0, error: '' }),
      },
    });
  }

  /** How a container ended that its record shows as running, or undefined if it does not. */
  async #endingOf({ id, state }: ContainerRecord): Promise<ContainerExit | undefined> {
    if (state.status !== 'running' && state.status !== 'paused' && state.status !== 'starting')
      return undefined;
    const exit = await this.#o.runtime.exitOf(id);
    // a start that died half-way has left something dead: that is no exit
    if (state.status === 'starting') return exit?.isKnown ? exit : undefined;
    if (exit !== undefined) return exit;
    return { id, exitCode: UNKNOWN_EXIT, wasOomKilled: false, at: nowText(), isKnown: false };
  }

  /** A container without a process: a start that died half-way is undone, leftovers go. */
  async #tidy(record: ContainerRecord): Promise<void> {
    await this.#o.launcher.takeDown(record.id);
    const { status, startedAt } = record.state;
    const isNew = startedAt.startsWith('0001-');
    if (status === 'starting')
      await this.#o.records.move(record, { status: isNew ? 'created' : 'exited', pid: 0 });
    // the daemon died between two runs: the policy decides anew once everything is up
    else if (status === 'restarting') await this.#o.records.move(record, { status: 'exited', pid: 0 });
  }

  /** Containers, directories and files under the engine's roots that no record names. */
  async #removeStrangers(): Promise<void> {
    const { records, runtime, launcher, dataRoot, log } = this.#o;
    for (const id of await runtime.list()) {
      if (records.get(id) !== undefined) continue;
      log.warn({ container: id }, 'removing a container that no record names');
      await launcher.takeDown(id);
    }
    const root = join(dataRoot, 'containers');
    for (const id of await readdir(root)) {
      if (records.get(id) !== undefined) continue;
      log.warn({ container: id }, 'removing the files of a container that no record names');
      await this.#each(id, async () => {
        await launcher.unmount(id);
        await removeTree(join(root, id));
      });
    }
  }
}

/** Its removal has begun, and perhaps failed. */
function isGoing({ state }: ContainerRecord): boolean {
  return state.status === 'removing' || state.status === 'dead';
}

/** Everything that has a past. */
export interface RecoveryParts {
  store: Pick<Store, 'needsRebuild' | 'commit' | 'endRebuild' | 'table'>;
  sidecars: Pick<Sidecars, 'images' | 'sweep' | 'containers' | 'writeContainer' | 'removeContainer'>;
  images: Pick<Images, 'rebuild' | 'mendCopies'>;
  records: ContainerRecords;
  life: Life;
  launcher: Launcher;
  runtime: Pick<Runtime, 'find' | 'exitOf' | 'list'>;
  networks: Pick<Networks, 'recover'>;
  containerNetworks: Pick<ContainerNetworks, 'liveOf' | 'connectionsOf' | 'name'>;
  shelf: LayerShelf;
  volumes: Volumes;
  mounts: Pick<MountSetup, 'recover'>;
  dataRoot: string;
  log: Log;
}
