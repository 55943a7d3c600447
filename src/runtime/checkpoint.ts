import { fail } from '../errors.ts';
import type { Bundle } from './bundle.ts';
import { networkless } from './conmon.ts';
import type { OciRuntime } from './runtimes.ts';

/** Freezes a container's processes into a directory, by CRIU. Throws 500 with the runtime's words. */
export async function makeCheckpoint(
  { bundle, runtime }: { bundle: Bundle; runtime: OciRuntime },
  { directory, exits }: { directory: string; exits: boolean },
): Promise<void> {
  const places = ['--image-path', directory, '--work-path', bundle.directory];
  const options = [...places, ...networkless, ...(exits ? [] : ['--leave-running'])];
  const { code, stderr } = await runtime.call('checkpoint', ...options, bundle.id);
  if (code === 0) return;
  // Debian builds crun without it
  const reason = stderr.includes('unknown command checkpoint')
    ? `it is built without CRIU; run the container with --runtime runc`
    : stderr.trim();
  throw fail.runtime(`${runtime.name} checkpoint failed: ${reason}`);
}
