import { invalidTar, type TarEntry } from './tar.ts';
import { TarWalker } from './tar-walker.ts';

/** A member of an archive that is being read. */
export interface TarMember {
  readonly entry: TarEntry;
  /** Its bytes, once, and only until the next member is asked for. What is not taken is passed over. */
  readonly content: AsyncIterable<Buffer>;
}

type Event = { readonly entry: TarEntry } | { readonly bytes: Buffer } | 'close';

/**
 * Reads an archive's members in their order, at the pace of the one who takes them, holding no more than the piece that
 * came last. Throws `CORRUPT` for what is no tar, is cut, or holds a sparse file, which has no business in an archive
 * that is made to be sent.
 */
export async function* readTar(pieces: AsyncIterable<Buffer>): AsyncGenerator<TarMember, void, undefined> {
  const events = eventsOf(pieces);
  let isOpen = false;
  let isReading = false;
  const next = async () => {
    isReading = true;
    const event = await events.next();
    isReading = false;
    return event;
  };
  const contentOf = async function* () {
    while (isOpen) {
      const { value, done } = await next();
      if (done === true || value === 'close') isOpen = false;
      else if ('bytes' in value) yield value.bytes;
    }
  };
  try {
    for (;;) {
      const { value, done } = await next();
      if (done === true) return;
      if (typeof value !== 'object' || !('entry' in value)) throw new Error('content without a member');
      isOpen = true;
      yield { entry: value.entry, content: contentOf() };
      for await (const _ of contentOf());
    }
  } finally {
    const ended = events.return();
    // who leaves over a content's next piece need not wait for it: it may be on its way for ever
    if (isReading) ended.catch(() => {});
    else await ended;
  }
}

async function* eventsOf(pieces: AsyncIterable<Buffer>): AsyncGenerator<Event, void, undefined> {
  const events: Event[] = [];
  const walker = new TarWalker({
    raw: () => {},
    open: (entry) => {
      checkWhole(entry);
      events.push({ entry });
      return true;
    },
    content: (bytes) => events.push({ bytes }),
    close: () => events.push('close'),
  });
  for await (const piece of pieces) {
    walker.push(piece);
    yield* events.splice(0);
  }
  walker.end();
}

function checkWhole({ name, size, fragments }: TarEntry): void {
  const [first] = fragments;
  const isWhole = size === 0 || (first?.offset === 0 && first.length === size);
  if (!isWhole) throw invalidTar(`${name} is a sparse file`);
}
