import { writeSync } from 'node:fs';
import { Housekeeping, runJob } from './child-job.ts';
import { TreeTar, type TreeTarJob } from './tree-tar.ts';

/** The program that packs one tree, onto stdout. It waits wherever nobody reads on. */
const OUTPUT = 1;

async function pack(job: TreeTarJob): Promise<true> {
  const housekeeping = new Housekeeping();
  TreeTar.pack(job, (bytes) => {
    for (let done = 0; done < bytes.length; ) done += writeSync(OUTPUT, bytes, done);
    housekeeping.after(bytes.length);
  });
  return true;
}

void runJob(pack);
