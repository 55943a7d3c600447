import { countedInput, Housekeeping, runJob } from './child-job.ts';
import { decompress } from './decompression.ts';
import { type ExtractedLayer, Extraction, type ExtractionJob } from './extraction.ts';

/**
 * The program that unpacks one layer, whose compressed bytes come on stdin. It holds no bytes but those in the hand.
 * What it was at when it was killed, the next daemon sweeps.
 */
async function extract(job: ExtractionJob): Promise<ExtractedLayer> {
  process.umask(0);
  const extraction = Extraction.open(job);
  const housekeeping = new Housekeeping();
  await decompress(countedInput(process.stdin), job.compression, (bytes) => {
    extraction.push(bytes);
    housekeeping.after(bytes.length);
  });
  return extraction.finish();
}

void runJob(extract);
