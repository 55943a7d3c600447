import type { Log } from '../lib/log.ts';
import { parseReference } from '../lib/reference.ts';
import { nowText } from '../lib/time.ts';
import type { ImageRecord, RefRecord } from '../store/records.ts';
import type { ImageSidecar, Sidecars } from '../store/sidecars.ts';
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

  /** Durable when it resolves: the record with the names that stand for it, and those it is about to be given. */
  async write(record: ImageRecord, coming: readonly string[] = []): Promise<void> {
    const names = new Set([...((await this.#names.byImage()).get(record.id) ?? []), ...coming]);
    await this.#sidecars.writeImage(record, [...names]);
  }

  /** Gone for good when it resolves. */
  async remove({ id }: ImageRecord): Promise<void> {
    await this.#sidecars.removeImage(id);
  }

  /** After records were lost: what the copies on disk still know, images with their names, comes back. */
  async rebuild(copies: AsyncIterable<ImageSidecar>): Promise<void> {
    for await (const { record, names } of copies) {
      if ((await this.#images.get(record.id)) !== undefined) continue;
      if (!(await this.#shelf.isWhole(record.diffIds))) continue; // a pull that was never finished, or lost layers
      const changes: Change[] = [this.#images.put(record.id, record)];
      for (const name of names) {
        if ((await this.#refs.get(name)) !== undefined) continue;
        const { digest } = parseReference(name);
        const ref: RefRecord = {
          imageId: record.id,
          updatedAt: nowText(),
          previous: [],
          ...(digest && { digest }),
        };
        changes.push(this.#refs.put(name, ref));
      }
      await this.#store.commit(changes);
      this.#log.warn({ image: record.id, names }, 'image record rebuilt from its copy on disk');
    }
  }

  /**
   * With all records at hand: makes the copies say the same. What a power cut left between a copy and its record goes
   * or loses the names that did not come to be.
   */
  async mend(copies: AsyncIterable<ImageSidecar>): Promise<void> {
    const namesById = await this.#names.byImage();
    for await (const { record, names } of copies) {
      const present = await this.#images.get(record.id);
      const known = new Set(namesById.get(record.id));
      if (present === undefined) await this.remove(record);
      else if (names.length !== known.size || names.some((name) => !known.has(name)))
        await this.write(present);
    }
  }
}
