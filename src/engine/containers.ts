import { join } from 'node:path';
import { fail } from '../errors.ts';
import { removeTree } from '../host/files.ts';
import { newId } from '../lib/ids.ts';
import type { Log } from '../lib/log.ts';
import { parseSignal } from '../lib/signals.ts';
import { type CreateRequest, checkLast, checkRequest, type HostLimits } from './container-checks.ts';
import { checkPlatform, damageWarnings, newRecord } from './container-creation.ts';
import { tellContainer } from './container-events.ts';
import { selectContainers } from './container-filters.ts';
import { allNamesOf, settleLinks, shownLinks, withoutLink } from './container-links.ts';
import type { ContainerNetworks } from './container-networks.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import { checkAddressTexts, checkNewEndpoints } from './endpoint-checks.ts';
import type { EtcFiles } from './etc-files.ts';
import type { Events } from './events.ts';
import type { Filters } from './filters.ts';
import type { HealthChecks } from './health.ts';
import type { Health } from './health-rules.ts';
import type { Images } from './images.ts';
import type { Launcher } from './launcher.ts';
import type { LayerShelf } from './layer-shelf.ts';
import type { Life } from './life.ts';
import { hasLogFile } from './log-drivers.ts';
import type { ContainerRecord } from './model.ts';
import { checkBindSources } from './mount-requests.ts';
import { mountPointsOf } from './mounts.ts';
import { settleDonors } from './namespaces.ts';
import type { NetworkRecord, NetworkRecords } from './network-records.ts';
import { writtenBytes } from './rootfs-marks.ts';
import { VolumeFilling } from './volume-filling.ts';
import type { VolumeMounts } from './volume-mounts.ts';
import type { VolumeUsers } from './volume-users.ts';
import type { Volumes } from './volumes.ts';

/** Bytes of a container's own files, and of these with its image's. */
export interface ContainerSizes {
  rwBytes: number;
  rootBytes: number;
}

/** A container as a list shows it. */
export interface ContainerSummary {
  record: ContainerRecord;
  /** By itself, and by those that are linked to it: `/web`, `/app/home`. */
  names: string[];
  /** What the client named, or the image's ID once that name means another image. */
  imageName: string;
  /** Absent where nothing is checked. */
  health?: Health;
  sizes?: ContainerSizes;
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
    lower: string[];
  };
}

/** What clients do with containers. Their life is {@link Life}'s, what their processes say and hear {@link ContainerIo}'s. */
export class Containers {
  readonly #parts: ContainerParts;

  constructor(parts: ContainerParts) {
    this.#parts = parts;
  }

  /** Makes a container that can be started. Throws 400, 404 or 409 in dockerd's words and order. */
  async create(request: CreateRequest): Promise<{ id: string; warnings: string[] }> {
    const { host, images, records, events, log } = this.#parts;
    const networkName = (ref: string) => this.#network(ref)?.name ?? ref;
    const checked = checkRequest(request, host);
    if (request.hostConfig.mounts?.length) await checkBindSources(request.hostConfig.mounts);
    this.#checkEndpoints(request);
    const hostConfig = settleDonors(checked.hostConfig, (ref) => records.find(ref));
    return images.using(request.config.image, async (image) => {
      const id = newId();
      const links = settleLinks(hostConfig, (ref) => records.find(ref));
      const draft = newRecord(id, '', image, { ...request, hostConfig }, { host, networkName });
      const warnings = [
        ...checked.warnings,
        ...checkPlatform(image, request, host.platform),
        ...damageWarnings(this.#parts.shelf.isSound(draft.diffIds), request.config.image),
      ];
      const name = records.reserveName(id, request.name);
      const volumes = new VolumeFilling(id, this.#parts);
      try {
        checkLast(draft.hostConfig);
        const mounts = await mountPointsOf(draft.config, draft.hostConfig, {
          volumes,
          find: (ref) => records.find(ref),
          dataRoot: this.#parts.dataRoot,
          ...(request.hasFlatReadOnly && { hasFlatReadOnly: true }),
        });
        const record: ContainerRecord = { ...draft, name, mounts, ...(links.length > 0 && { links }) };
        await volumes.borrow(mounts);
        await volumes.fill(record);
        await records.create(record, volumes.changes());
        tellContainer(events, record, 'create');
        log.info({ container: id, name, image: image.record.id }, 'container created');
        return { id, warnings };
      } catch (cause) {
        records.releaseName(name);
        const directory = this.#parts.launcher.directoryOf(id);
        await Promise.allSettled([removeTree(directory), volumes.discard()]); // else a boot finds what is left
        throw cause;
      } finally {
        volumes.release();
      }
    });
  }

  async list(o: {
    isAll: boolean;
    limit: number;
    withSize: boolean;
    filters: Filters;
  }): Promise<ContainerSummary[]> {
    const named = (o.filters.get('ancestor') ?? []).map((name) =>
      this.#parts.images.find(name).catch(() => undefined),
    );
    const found = (await Promise.all(named)).flatMap((image) => image ?? []);
    const ancestors = found.length > 0 ? await this.#parts.images.familyOf(found) : new Set<string>();
    const chosen = selectContainers(this.#parts.records.all(), {
      ...o,
      ancestors,
      healthOf: (id) => this.#parts.health.of(id)?.status ?? 'none',
    });
    return Promise.all(chosen.map((record) => this.#summary(record, o.withSize)));
  }

  async inspect(ref: string, o: { withSize: boolean }): Promise<ContainerView> {
    const record = this.#find(ref);
    const { launcher, etc, shelf, dataRoot } = this.#parts;
    const directory = launcher.directoryOf(record.id);
    const lower = await shelf.directories(record.diffIds).catch(() => []);
    const links = shownLinks(record, this.#parts.records);
    return {
      ...(await this.#summary(record, o.withSize)),
      record: { ...record, hostConfig: { ...record.hostConfig, links } },
      paths: {
        log: hasLogFile(record) ? launcher.logPathOf(record.id) : '',
        ...etc.pathsOf(record.id),
        upper: join(directory, 'upper'),
        merged: join(directory, 'merged'),
        work: join(directory, 'work'),
        lower: lower.map((dirId) => join(dataRoot, 'layers', dirId, 'diff')).reverse(),
      },
    };
  }

  async start(ref: string, o: { signal?: AbortSignal; checkpointPath?: string } = {}): Promise<boolean> {
    return this.#parts.life.start(this.#find(ref).id, o);
  }

  async stop(ref: string, o: { timeoutSeconds?: number; signalName?: string }): Promise<boolean> {
    return this.#parts.life.stop(this.#find(ref).id, o);
  }

  async restart(ref: string, o: { timeoutSeconds?: number; signalName?: string }): Promise<void> {
    return this.#parts.life.restart(this.#find(ref).id, o);
  }

  /** What is no signal is told before that there is no such container. */
  async kill(ref: string, signalName: string): Promise<void> {
    parseSignal(signalName || 'SIGKILL');
    return this.#parts.life.kill(this.#find(ref).id, signalName);
  }

  async pause(ref: string): Promise<void> {
    return this.#parts.life.pause(this.#find(ref).id);
  }

  async unpause(ref: string): Promise<void> {
    return this.#parts.life.unpause(this.#find(ref).id);
  }

  async remove(ref: string, o: { force: boolean; withVolumes: boolean }): Promise<void> {
    return this.#parts.life.remove(ref, this.#find(ref).id, o);
  }

  /** Takes a link away from the container that has it, not the one that it leads to: `app/home`. */
  async removeLink(name: string): Promise<void> {
    const { life, records } = this.#parts;
    this.#find(name);
    const [parentName = '', alias] = name.replace(/^\//, '').split('/');
    if (alias === undefined)
      throw fail.host('Conflict, cannot remove the default link name of the container');
    await life.change(this.#find(parentName).id, (parent) => records.create(withoutLink(parent, alias)));
  }

  async rename(ref: string, name: string): Promise<void> {
    const { life, records, containerNetworks, events } = this.#parts;
    if (name === '') throw fail.badRequest('Neither old nor new names may be empty');
    await life.change(this.#find(ref).id, async (record) => {
      if (record.name === name.replace(/^\//, ''))
        throw fail.badRequest('Renaming a container with the same name as its current name');
      const renamed = await records.rename(record, name);
      if (isRunning(renamed)) await containerNetworks.name([renamed]);
      tellContainer(events, renamed, 'rename', { oldName: `/${record.name}` });
    });
  }

  #checkEndpoints({ endpoints, hasLateEndpoints }: CreateRequest): void {
    if (hasLateEndpoints) checkAddressTexts(endpoints);
    else checkNewEndpoints(endpoints, (ref) => this.#network(ref));
  }

  /** Undefined for one that is not there, or cannot be told from others: that is found when the container starts. */
  #network(ref: string): NetworkRecord | undefined {
    try {
      return this.#parts.networks.find(ref);
    } catch {
      return undefined;
    }
  }

  #find(ref: string): ContainerRecord {
    return this.#parts.records.find(ref);
  }

  async #summary(record: ContainerRecord, withSize: boolean): Promise<ContainerSummary> {
    const meant = await this.#parts.images.find(record.config.image).catch(() => undefined);
    const imageName = meant?.id === record.imageId ? record.config.image : record.imageId;
    const health = this.#parts.health.of(record.id);
    return {
      record,
      names: allNamesOf(record, this.#parts.records),
      imageName,
      ...(health && { health }),
      ...(withSize && { sizes: await this.#sizes(record) }),
    };
  }

  async #sizes(record: ContainerRecord): Promise<ContainerSizes> {
    const rwBytes = await writtenBytes(join(this.#parts.launcher.directoryOf(record.id), 'upper'));
    const image = await this.#parts.images.find(record.imageId).catch(() => undefined);
    return { rwBytes, rootBytes: rwBytes + (image?.sizeBytes ?? 0) };
  }
}

/** The engine's parts that containers are made of. */
export interface ContainerParts {
  records: ContainerRecords;
  images: Images;
  shelf: LayerShelf;
  volumes: Volumes;
  volumeMounts: VolumeMounts;
  volumeUsers: VolumeUsers;
  launcher: Launcher;
  life: Life;
  health: Pick<HealthChecks, 'of'>;
  events: Events;
  etc: EtcFiles;
  containerNetworks: Pick<ContainerNetworks, 'name'>;
  networks: Pick<NetworkRecords, 'find'>;
  host: HostLimits;
  dataRoot: string;
  log: Log;
}
