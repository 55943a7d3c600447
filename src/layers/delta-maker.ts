import { open, unlink } from 'node:fs/promises';
import { dirname, extname, join } from 'node:path';
import type { Digest } from '../lib/digest.ts';
import { newId } from '../lib/ids.ts';
import { Semaphore } from '../lib/locks.ts';
import { type DeltaMakingJob, type DeltaStep, readSteps } from './delta-steps.ts';
import { type ChildProgram, childNodeFlags, withCompiler } from './layer-child.ts';
import { childOutput } from './packer.ts';

/** A layer that is here. */
interface LayerHere {
  readonly diffId: Digest;
  readonly dirId: string;
}

/**
 * Makes librsync deltas between layers that are here, in a child, one image at a time. The caller keeps the layers
 * where they are meanwhile.
 */
export class DeltaMaker {
  readonly #dataRoot: string;
  readonly #program: ChildProgram;
  readonly #turns = new Semaphore(1);

  /** `childPath` is the program extract-layer, with make-delta beside it. */
  constructor({ dataRoot, childPath }: { dataRoot: string; childPath: string }) {
    this.#dataRoot = dataRoot;
    this.#program = {
      path: join(dirname(childPath), `make-delta${extname(childPath)}`),
      nodeFlags: withCompiler(childNodeFlags), // ten times as fast
    };
  }

  /**
   * The deltas that make each target's tar out of those of the base, one behind the other in this order, with the steps
   * on the way. Throws `CORRUPT` if a layer is not what its diff ID says. The child lives as long as this is read.
   */
  async *make(
    o: { base: readonly LayerHere[]; targets: readonly LayerHere[] },
    { signal }: { signal: AbortSignal },
  ): AsyncGenerator<DeltaStep, void, undefined> {
    await using _turn = await this.#turns.hold({ signal });
    const place = ({ diffId, dirId }: LayerHere) => ({
      diffId,
      directory: join(this.#dataRoot, 'layers', dirId),
    });
    const job: DeltaMakingJob = { base: o.base.map(place), targets: o.targets.map(place) };
    // a delta's size stands before it: the child keeps it here, in a file that goes with the last who has it open
    const path = join(this.#dataRoot, 'staging', `delta-${newId().slice(0, 16)}`);
    await using file = await open(path, 'wx+', 0o600);
    await unlink(path);
    yield* readSteps(childOutput(this.#program, job, { what: 'making a delta', input: file.fd, signal }));
  }
}
