import { Readable } from 'node:stream';

/** A stream of these pieces. Unlike one of `Readable.from`, it can be destroyed while it waits for the next one. */
export function readableOf(pieces: AsyncIterable<Buffer>): Readable {
  const iterator = pieces[Symbol.asyncIterator]();
  return new Readable({
    read() {
      iterator.next().then(
        ({ value, done }) => this.push(done === true ? null : value),
        (cause: Error) => this.destroy(cause),
      );
    },
    destroy(cause, done) {
      iterator.return?.().catch(() => {}); // not waited for: a piece may be on its way for ever
      done(cause);
    },
  });
}
