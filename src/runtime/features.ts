import { canSetMountAttributes } from '../host/kernel.ts';
import type { OciRuntime } from './runtimes.ts';

/** crun can since this one, and says so only since 1.8.4. */
const CRUN_WITH_RRO = [1, 4] as const;

/**
 * Whether mounts can be made read-only with all that is mounted below them (`rro`), in dockerd's words if not. Asked
 * of each OCI runtime once, when a container needs it.
 */
export class RuntimeFeatures {
  readonly #answers = new Map<string, Promise<string | undefined>>();

  /** Why a runtime cannot; undefined if it can. */
  whyNotDeep(runtime: OciRuntime): Promise<string | undefined> {
    const known = this.#answers.get(runtime.name);
    if (known !== undefined) return known;
    const answer = ask(runtime);
    this.#answers.set(runtime.name, answer);
    return answer;
  }
}

async function ask(runtime: OciRuntime): Promise<string | undefined> {
  if (!canSetMountAttributes())
    return 'rro is not supported: failed to call mount_setattr: function not implemented (kernel is older than 5.12?)';
  const told = `rro is not supported by runtime "${runtime.name}"`;
  const options = mountOptionsOf((await runtime.call('features')).stdout);
  if (options !== undefined) return options.includes('rro') ? undefined : told;
  if (/(^|\/)crun$/.test(runtime.path) && isAtLeast(await runtime.version(), CRUN_WITH_RRO)) return undefined;
  return `${told}: OCI features struct is not available`;
}

/** `mountOptions` of the OCI runtime spec's features.md; undefined if the runtime tells nothing of the kind. */
function mountOptionsOf(text: string): readonly unknown[] | undefined {
  try {
    const features: unknown = JSON.parse(text);
    if (typeof features !== 'object' || features === null || !('mountOptions' in features)) return undefined;
    return Array.isArray(features.mountOptions) ? features.mountOptions : undefined;
  } catch {
    return undefined;
  }
}

function isAtLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [ownMajor = 0, ownMinor = 0] = version.split('.').map(Number);
  return ownMajor > major || (ownMajor === major && ownMinor >= minor);
}
