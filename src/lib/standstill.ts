import { fail } from '../errors.ts';

/**
 * What a client sends, piece by piece, for as long as it sends. One that sends nothing for `ms` is given up; the time
 * in which the taker holds a piece is not counted.
 */
export async function* withoutStandstill(
  pieces: AsyncIterable<Buffer>,
  ms: number,
): AsyncGenerator<Buffer, void, void> {
  const iterator = pieces[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = await inTime(iterator.next(), ms);
      if (done === true) return;
      yield value;
    }
  } finally {
    // not waited for: it would wait for the piece that does not come
    iterator.return?.()?.catch(() => {});
  }
}

async function inTime<T>(promise: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(fail.standstill(ms / 1000)), ms);
  });
  promise.catch(() => {}); // one that fails later has nobody who would hear of it
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
