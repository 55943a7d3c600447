import { Failure, fail } from '../errors.ts';
import type { DeltaArtifact } from '../lib/delta-artifact.ts';
import type { Digest } from '../lib/digest.ts';
import { familiarString, type Reference } from '../lib/reference.ts';
import type { Registry, RegistryAuth, RemoteImage } from '../registry/registry.ts';
import type { ImageRecord } from '../store/records.ts';
import { recordsOf, type Table } from '../store/tables.ts';
import type { Bases } from './bases.ts';
import { credentialFor } from './credentials.ts';
import type { Images } from './images.ts';
import type { LayerShelf } from './layer-shelf.ts';

/** Whether layers may come of a delta: if there is one; or must, so that none is fetched whole; or must not. */
export type DeltaMode = 'auto' | 'require' | 'off';

/** What a pull says of deltas. */
export interface DeltaWishes {
  readonly mode?: DeltaMode;
  /** Images that may serve as base, the best first; every one that is here, if left out. */
  readonly bases?: readonly string[];
  /** A delta's artifact, or an index of some, to be taken instead of what lies beside the image. */
  readonly source?: Reference;
  /** Credentials by server, for the source's. */
  readonly auths?: ReadonlyMap<string, RegistryAuth>;
}

/** A delta that may serve. */
export interface DeltaCandidate {
  readonly delta: DeltaArtifact;
  readonly base: ImageRecord;
  /** Where it is fetched. */
  readonly ref: Reference;
  readonly auth: RegistryAuth | undefined;
}

/** The pull that looks for one. */
interface Seeker {
  readonly ref: Reference;
  readonly auth: RegistryAuth | undefined;
  readonly wishes: DeltaWishes;
  readonly signal: AbortSignal;
}

/** Finds the deltas that lead from images that are here to one that a registry has. */
export class DeltaChoice {
  readonly #registry: Pick<Registry, 'deltas'>;
  readonly #images: Pick<Images, 'find' | 'refOf'>;
  readonly #records: Table<ImageRecord>;
  readonly #bases: Pick<Bases, 'stored'>;
  readonly #shelf: Pick<LayerShelf, 'get' | 'isSound'>;

  constructor(o: {
    registry: Pick<Registry, 'deltas'>;
    images: Pick<Images, 'find' | 'refOf'>;
    records: Table<ImageRecord>;
    bases: Pick<Bases, 'stored'>;
    shelf: Pick<LayerShelf, 'get' | 'isSound'>;
  }) {
    this.#registry = o.registry;
    this.#images = o.images;
    this.#records = o.records;
    this.#bases = o.bases;
    this.#shelf = o.shelf;
  }

  /** One or more, by how many bytes they have, the smallest first. Throws, saying why, if there is none. */
  async candidates(pull: Seeker, remote: RemoteImage): Promise<DeltaCandidate[]> {
    const bases = await this.#wholeBases(pull, remote);
    const { signal, wishes } = pull;
    const wish = { targetManifest: remote.manifestDigest, baseIds: bases.map(({ id }) => id) };
    const { source, auths } = wishes;
    const ref = source ?? pull.ref;
    const auth = credentialFor({ auth: pull.auth, auths }, ref.domain, pull.ref.domain);
    const o = { ...(auth && { auth }), isNamed: source !== undefined, signal };
    const deltas = await this.#registry.deltas(ref, wish, o);
    const candidates = deltas.flatMap((delta) => {
      const base = bases.find(({ id }) => id === delta.facts.baseId);
      return base === undefined ? [] : [{ delta, base, ref, auth }];
    });
    const where = source === undefined ? 'the registry' : familiarString(source);
    if (candidates.length === 0) throw fail.noDelta(`${where} has no delta from an image that is here`);
    return candidates;
  }

  /**
   * Images whose layers are all here and sound: the tag's current one, then those that share most with the target; after
   * them those of the second store.
   */
  async #wholeBases({ ref, wishes }: Seeker, remote: RemoteImage): Promise<ImageRecord[]> {
    const whole: ImageRecord[] = [];
    let firstTrouble: string | undefined;
    for (const image of await this.#possibleBases(ref, wishes, remote)) {
      const trouble = await this.#troubleWith(image.diffIds);
      if (trouble === undefined) whole.push(image);
      else firstTrouble ??= trouble;
    }
    whole.push(...(await this.#storedBases(wishes, remote)));
    if (whole.length === 0) throw fail.noDelta(firstTrouble ?? 'no image is here that could be the base');
    return whole;
  }

  async #storedBases({ bases }: DeltaWishes, { configDigest }: RemoteImage): Promise<ImageRecord[]> {
    const stored: ImageRecord[] = [];
    for (const name of bases ?? [undefined]) stored.push(...(await this.#bases.stored(name)));
    return stored.filter(({ id }) => id !== configDigest);
  }

  async #troubleWith(diffIds: readonly Digest[]): Promise<string | undefined> {
    for (const diffId of diffIds) {
      const record = await this.#shelf.get(diffId);
      if (record !== undefined && this.#shelf.isSound([diffId])) continue;
      const damage = record?.damage === undefined ? '' : `: ${record.damage}`;
      return `layer ${diffId} of its base is ${record === undefined ? 'missing' : 'damaged'}${damage}`;
    }
    return undefined;
  }

  async #possibleBases(ref: Reference, { bases }: DeltaWishes, remote: RemoteImage): Promise<ImageRecord[]> {
    if (bases !== undefined) {
      const found = await Promise.all(bases.map((name) => this.#images.find(name).catch(missingAsNone)));
      return found.filter((image) => image !== undefined).filter(({ diffIds }) => diffIds.length > 0);
    }
    const current = (await this.#images.refOf(ref))?.imageId;
    const target = new Set(remote.layers.map(({ diffId }) => diffId));
    const shared = ({ diffIds }: ImageRecord) => diffIds.filter((diffId) => target.has(diffId)).length;
    const rank = (image: ImageRecord) => (image.id === current ? Number.POSITIVE_INFINITY : shared(image));
    const others = (await recordsOf(this.#records)).filter(
      ({ id, diffIds }) => id !== remote.configDigest && diffIds.length > 0,
    );
    return others.toSorted((a, b) => (rank(a) === rank(b) ? 0 : rank(b) - rank(a)));
  }
}

function missingAsNone(cause: unknown): undefined {
  if (!(cause instanceof Failure) || cause.status >= 500) throw cause;
}
