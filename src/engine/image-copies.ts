import type { Digest } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import { parseReference } from '../lib/reference.ts';
import { nowText } from '../lib/time.ts';
import type { ImageRecord, RefRecord } from '../store/records.ts';
import type { FormerName, ImageSidecar, Sidecars } from '../store/sidecars.ts';
import type { Store } from '../store/store.ts';
import type { Change, Table } from '../store/tables.ts';
import type { ImageNames } from './image-names.ts';
import type { LayerShelf } from './layer-shelf.ts';

type Copies = Pick<Sidecars, 'writeImage' | 'removeImage'>;

/**
 * The copies of image records beside the database: kept in step with it, and what it is rebuilt from when it is lost.
 * A copy is written before its record and removed after it.
 */
export class ImageCopies {
  readonly #store: Pick<Store, 'commit'>;
  readonly #images: Table<ImageRecord>;
  readonly #refs: Table<RefRecord>;
  readonly #sidecars: Copies;
  readonly #names: ImageNames;
  readonly #shelf: Pick<LayerShelf, 'isWhole'>;
  readonly #log: Log;

  constructor(o: {
    store: Store;
    sidecars: Copies;
    names: ImageNames;
    shelf: Pick<LayerShelf, 'isWhole'>;
    log: Log;
  }) {
    this.#store = o.store;
    this.#images = o.store.table('images');
    this.#refs = o.store.table('refs');
    this.#sidecars = o.sidecars;
    this.#names = o.names;
    this.#shelf = o.shelf;
    this.#log = o.log;
  }

  /** Durable when it resolves: the record with the names that stand or stood for it, and those that are to come. */
  async write(record: ImageRecord, coming: readonly string[] = []): Promise<void> {
    const names = new Set([...((await this.#names.byImage()).get(record.id) ?? []), ...coming]);
    const former = (await this.#names.formerByImage()).get(record.id);
    await this.#sidecars.writeImage(record, [...names], former);
  }

  /** {@link write} for those of these images that are here. */
  async writeAll(imageIds: Iterable<Digest>): Promise<void> {
    for (const id of new Set(imageIds)) {
      const record = await this.#images.get(id);
      if (record !== undefined) await this.write(record);
    }
  }

  /** Gone for good when it resolves. */
  async remove({ id }: ImageRecord): Promise<void> {
    await this.#sidecars.removeImage(id);
  }

  /** After records were lost: what the copies on disk still know, images with their names, comes back. */
  async rebuild(copies: AsyncIterable<ImageSidecar>): Promise<void> {
    const rebuilt = new Map<string, RefRecord>();
    const former: [Digest, FormerName][] = [];
    for await (const copy of copies) {
      const { record, names } = copy;
      if (!(await this.#shelf.isWhole(record.diffIds))) continue; // a pull that was never finished, or lost layers
      former.push(...(copy.former ?? []).map((name): [Digest, FormerName] => [record.id, name]));
      const isLost = (await this.#images.get(record.id)) === undefined;
      const changes: Change[] = isLost ? [this.#images.put(record.id, record)] : [];
      for (const name of names) {
        if ((await this.#refs.get(name)) !== undefined) continue;
        const { digest } = parseReference(name);
        const ref = { imageId: record.id, updatedAt: nowText(), previous: [], ...(digest && { digest }) };
        rebuilt.set(name, ref);
        changes.push(this.#refs.put(name, ref));
      }
      if (changes.length === 0) continue;
      await this.#store.commit(changes);
      this.#log.warn({ image: record.id, names }, 'image record rebuilt from its copy on disk');
    }
    await this.#rebuildGenerations(rebuilt, former);
  }

  /** Tags that came back get back what they can be rolled back to. */
  async #rebuildGenerations(
    rebuilt: ReadonlyMap<string, RefRecord>,
    former: readonly [Digest, FormerName][],
  ): Promise<void> {
    const newestFirst = former.toSorted(([, a], [, b]) => (a.until < b.until ? 1 : -1));
    const changes = [...rebuilt].flatMap(([name, ref]) => {
      const previous = newestFirst
        .filter(([imageId, was]) => was.name === name && imageId !== ref.imageId)
        .map(([imageId, { name: _name, ...when }]) => ({ imageId, ...when }));
      return previous.length === 0 ? [] : [this.#refs.put(name, { ...ref, previous })];
    });
    await this.#store.commit(changes);
  }

  /**
   * With all records at hand: makes the copies say the same. What a power cut left between a copy and its record goes
   * or loses the names that did not come to be; a copy that is damaged or gone is written again.
   */
  async mend(copies: AsyncIterable<ImageSidecar>): Promise<void> {
    const [named, former] = [await this.#names.byImage(), await this.#names.formerByImage()];
    const whole = new Set<Digest>();
    for await (const copy of copies) {
      const { id } = copy.record;
      const present = await this.#images.get(id);
      whole.add(id);
      if (present === undefined) await this.#trying(id, () => this.remove(copy.record));
      else if (
        !isSame(copy.names, named.get(id)) ||
        !isSame(copy.former?.map(textOf), former.get(id)?.map(textOf))
      )
        await this.#trying(id, () => this.write(present));
    }
    for await (const [, record] of this.#images.entries()) {
      if (whole.has(record.id)) continue;
      this.#log.warn({ image: record.id }, 'the copy of an image record was lost: writing it again');
      await this.#trying(record.id, async () => {
        await this.remove(record);
        await this.write(record);
      });
    }
  }

  /** A copy that cannot be mended must not keep the engine from starting. */
  async #trying(image: Digest, mend: () => Promise<void>): Promise<void> {
    await mend().catch((err) => this.#log.error({ image, err }, 'the copy of an image record is not right'));
  }
}

function textOf({ name, until }: FormerName): string {
  return `${until} ${name}`;
}

/** Whether two lists have the same elements; none is the same as empty. */
function isSame(a: readonly string[] = [], b: readonly string[] = []): boolean {
  const known = new Set(a);
  return a.length === b.length && b.every((each) => known.has(each));
}
