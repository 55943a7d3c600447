import { setPriority } from 'node:os';
import { Housekeeping, ProgressReport, runJob } from './child-job.ts';
import { type Verdict, type VerificationJob, verifyLayer } from './verification.ts';

/** Buffers and file states of one look at a file, about, until they are collected. */
const ENTRY_BYTES = 4096;

/** The program that verifies one layer, out of the way of everything else that wants the processor. */
async function verify(job: VerificationJob): Promise<Verdict> {
  setPriority(19);
  const progress = new ProgressReport();
  const housekeeping = new Housekeeping();
  const verdict = verifyLayer(job, {
    onPiece(bytes) {
      progress.add(bytes);
      housekeeping.after(bytes);
    },
    onEntry: () => housekeeping.after(ENTRY_BYTES),
  });
  progress.end();
  return verdict;
}

void runJob(verify);
