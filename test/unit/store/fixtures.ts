import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Log } from '../../../src/lib/log.ts';
import { Store, type StoreOptions } from '../../../src/store/store.ts';

/** A log that remembers what an operator would have to look at. */
export class RecordingLog implements Log {
  readonly errors: { facts: object; message: string }[] = [];

  debug(): void {}
  info(): void {}
  warn(): void {}
  error(facts: object, message: string): void {
    this.errors.push({ facts, message });
  }
}

/** A directory for one test, gone after it. */
export async function temporaryDirectory(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'skerry-store-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** The store of a data root, with sizes so small that a few hundred records go through tables and compactions. */
export function openStore(dataRoot: string, o: Partial<StoreOptions> = {}): Promise<Store> {
  return Store.open({
    dir: join(dataRoot, 'db'),
    cacheBytes: 64 << 10,
    writeBufferBytes: 64 << 10,
    blockBytes: 4 << 10,
    fileBytes: 64 << 10,
    log: new RecordingLog(),
    ...o,
  });
}

/** Everything that an iteration gives. */
export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}
