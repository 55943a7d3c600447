import { writeSync } from 'node:fs';
import { ByteInput } from '../lib/byte-input.ts';
import type { LayerPlace } from './delta-job.ts';

/** What a child that makes librsync deltas is told. Descriptor 0 is a file of its own, empty, without a name. */
export interface DeltaMakingJob {
  /** One behind the other their tars are the base. */
  readonly base: readonly LayerPlace[];
  /** Of each tar it makes a delta, in this order. */
  readonly targets: readonly LayerPlace[];
}

/**
 * What such a child says, on its stdout: how many bytes of the base it has read, then for each target how many bytes of
 * that it has dealt with, and the delta. Each is a byte that tells which, a number in six, and a delta's own bytes.
 */
export type DeltaStep =
  | { readonly kind: 'read' | 'computed'; readonly bytes: number }
  | { readonly kind: 'delta'; readonly bytes: number; readonly content: AsyncIterable<Buffer> };

const kinds = ['read', 'computed', 'delta'] as const;
const NUMBER_BYTES = 6;
const OUTPUT = 1;

/** The child's side. It waits wherever nobody reads on. */
export function writeStep(kind: DeltaStep['kind'], bytes: number): void {
  const step = Buffer.alloc(1 + NUMBER_BYTES, kinds.indexOf(kind));
  step.writeUIntBE(bytes, 1, NUMBER_BYTES);
  writeAll(step);
}

/** Bytes of the delta that the last step announced. */
export function writeAll(bytes: Buffer): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(OUTPUT, bytes, done);
}

/** The other side. A delta's content is there until the next step is asked for; what is not taken is passed over. */
export async function* readSteps(output: AsyncIterable<Buffer>): AsyncGenerator<DeltaStep, void, undefined> {
  const input = new ByteInput(output, 'making a delta: ');
  try {
    while (!(await input.isAtEnd())) {
      const kind = kinds[await input.number(1)];
      const bytes = await input.number(NUMBER_BYTES);
      if (kind === undefined) throw new Error('making a delta: there is no such step');
      if (kind !== 'delta') {
        yield { kind, bytes };
        continue;
      }
      const content = input.take(bytes);
      yield { kind, bytes, content };
      for await (const _ of content);
    }
  } finally {
    await input.close();
  }
}
