import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../errors.ts';
import type { Layers, StagedLayer } from '../layers/layers.ts';
import type { Digest } from '../lib/digest.ts';
import type { Log } from '../lib/log.ts';
import type { LeaseRecord } from '../store/records.ts';
import type { Table } from '../store/tables.ts';

/** How long a boot waits for what it removes; a huge tree goes on going while the engine serves. */
const SWEEP_WAIT_MS = 2000;
/** How long it looks at what it may take up: what is left then is fetched anew. */
const VERIFY_MS = 10_000;

/** What a boot needs to settle what was being unpacked when the last daemon ended. */
export interface StagedRecoveryParts {
  layers: Pick<Layers, 'staged' | 'verifyStaged' | 'sweepStaging'>;
  leases: Pick<Table<LeaseRecord>, 'entries'>;
  /** Publishes it, and puts it on the shelf. */
  settle(staged: StagedLayer): Promise<unknown>;
  log: Log;
}

/**
 * Boot: what the last daemon had unpacked, but not yet synced and published, is taken up if it is what it says it is and
 * a living lease waits for it. All else in staging goes. Never throws.
 */
export async function recoverStaged(parts: StagedRecoveryParts): Promise<void> {
  const { layers, log } = parts;
  await adopt(parts).catch((err) => log.error({ err }, 'what was staged could not be taken up'));
  const swept = layers
    .sweepStaging(new Set())
    .catch((err) => log.error({ err }, 'what earlier runs left could not be removed'));
  const patience = new AbortController();
  const wait = sleep(SWEEP_WAIT_MS, undefined, { signal: patience.signal, ref: false }).catch(() => {});
  await Promise.race([swept, wait]);
  patience.abort();
}

async function adopt({ layers, leases, settle, log }: StagedRecoveryParts): Promise<void> {
  const awaited = new Set<Digest>();
  for await (const [, { expiresAt, diffIds }] of leases.entries())
    if (Date.parse(expiresAt) > Date.now()) for (const diffId of diffIds) awaited.add(diffId);
  const signal = AbortSignal.timeout(VERIFY_MS);
  for await (const staged of layers.staged()) {
    if (!awaited.has(staged.diffId) || signal.aborted) continue;
    try {
      if (!(await layers.verifyStaged(staged, { signal }))) continue;
      await settle(staged);
      log.info(
        { layer: staged.diffId, dir: staged.dirId },
        'a layer was taken up where the last daemon left it',
      );
    } catch (err) {
      log.warn({ layer: staged.diffId, err: messageOf(err) }, 'a staged layer was not taken up');
    }
  }
}
