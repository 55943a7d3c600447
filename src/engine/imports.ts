import { Readable } from 'node:stream';
import { fail } from '../errors.ts';
import type { Digest } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import { type Platform, parsePlatform } from '../lib/platform.ts';
import { progressBar } from '../lib/progress-bar.ts';
import { withoutStandstill } from '../lib/standstill.ts';
import type { Registry } from '../registry/registry.ts';
import { applyChanges } from './config-changes.ts';
import type { Events } from './events.ts';
import { emptyConfig, newImage } from './image-making.ts';
import { newName, tellTag } from './image-tags.ts';
import type { Images } from './images.ts';
import type { LayerShelf } from './layer-shelf.ts';
import type { Progress } from './progress.ts';

/** A tar that is to become an image of one layer. */
export interface ImportRequest {
  /** `-` for the body, or a URL; without a scheme it is http. */
  source: string;
  body: AsyncIterable<Buffer>;
  /** The new image's name; empty for none. */
  repo: string;
  tag: string;
  message: string;
  /** Dockerfile instructions. */
  changes: readonly string[];
  platform?: string;
}

/** A client that sends nothing for so long keeps others from unpacking. */
const STANDSTILL_MS = 60_000;

/** Makes images of archives of file trees. */
export class Imports {
  readonly #parts: ImportParts;

  constructor(parts: ImportParts) {
    this.#parts = parts;
  }

  /** Takes a tar in, packed in whatever way, and tells the new image's ID. Throws 400 before it reads anything. */
  async importTree(request: ImportRequest, o: { signal: AbortSignal; progress: Progress }): Promise<Digest> {
    const { images, shelf, events, host, release, log } = this.#parts;
    const began = performance.now();
    const platform = request.platform ? parsePlatform(request.platform, host) : host;
    const name = newName(request);
    const config = applyChanges(emptyConfig(), request.changes);
    const source = await this.#open(request, o);
    const lease = await shelf
      .lease([], 'import of an image', { endsWithDaemon: true })
      .catch((cause: unknown) => {
        source.body.destroy();
        throw cause;
      });
    try {
      const { onProgress, body } = source;
      const layer = await shelf.add(body, lease, { compression: 'auto', onProgress, signal: o.signal });
      const comment = request.message || `Imported from ${source.shown}`;
      const image = newImage({ layer, config, platform, author: '', comment, createdBy: '', release });
      const refs = name === undefined ? [] : [{ ref: name }];
      await images.adopt([{ record: image, refs }], await shelf.leaseEnds(lease));
      shelf.release(lease);
      if (name !== undefined) tellTag(events, image, name);
      events.emit('image', 'import', image.id, { name: image.id });
      o.progress({ status: image.id });
      const ms = Math.round(performance.now() - began);
      log.info({ image: image.id, bytes: layer.sizeBytes, ms }, 'image imported');
      return image.id;
    } catch (cause) {
      await shelf.drop(lease).catch((err) => log.error({ err }, 'lease not ended'));
      throw cause;
    }
  }

  async #open(
    { source, body }: ImportRequest,
    o: { signal: AbortSignal; progress: Progress },
  ): Promise<{ body: Readable; shown: string; onProgress: (bytes: number) => void }> {
    if (source === '-') {
      const moving = Readable.from(withoutStandstill(body, STANDSTILL_MS), { objectMode: false });
      return { body: moving, shown: source, onProgress: () => {} };
    }
    const download = await this.#parts.registry.download(urlOf(source), o);
    o.progress({ status: `Downloading from ${download.url}` });
    const total = download.totalBytes ?? 0;
    const onProgress = (current: number) =>
      o.progress({
        status: 'Importing',
        progressDetail: { current, ...(total > 0 && { total }) },
        progress: progressBar(current, total),
      });
    // no credentials into an image that others will read
    const shown = source.replace(/^(\w+:\/\/)?[^/@]*@/, '$1');
    return { body: download.body, shown, onProgress };
  }
}

function urlOf(source: string): URL {
  const text = source.includes('://') ? source : `http://${source}`;
  if (!URL.canParse(text)) {
    if (source === '') throw fail.registry('Get "http:": http: no Host in request URL');
    throw fail.badRequest(`parse ${JSON.stringify(text)}: invalid URL`);
  }
  const url = new URL(text);
  if (url.protocol === 'http:' || url.protocol === 'https:') return url;
  throw fail.registry(`Get "${text}": unsupported protocol scheme "${url.protocol.slice(0, -1)}"`);
}

interface ImportParts {
  images: Images;
  shelf: LayerShelf;
  registry: Pick<Registry, 'download'>;
  events: Events;
  /** What is said of an image whose platform nobody names. */
  host: Platform;
  release: string;
  log: Log;
}
