import { fail } from '../errors.ts';
import type { Arguments } from '../lib/arguments.ts';
import { Disposal } from '../lib/disposal.ts';
import { RegistryAccess } from './registry-access.ts';
import type { SourceContext } from './source-image.ts';
import type { Terminal } from './terminal.ts';
import { Workspace } from './workspace.ts';

/** As shells have it: 128 and the signal's number. */
const exitCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/**
 * Runs a command that reads images, with a directory for what it unpacks. A signal ends it, and the directory goes
 * whatever happens; a second signal does not wait for that.
 */
export async function withSources(
  { values }: Arguments,
  { env }: Terminal,
  work: (context: SourceContext) => Promise<number>,
): Promise<number> {
  const ending = new AbortController();
  const disposal = new Disposal();
  let interrupted: number | undefined;
  for (const [signal, code] of Object.entries(exitCodes)) {
    const end = () => {
      interrupted = code;
      ending.abort(new Error(`ended by ${signal}`));
    };
    process.once(signal, end);
    disposal.defer(() => void process.off(signal, end));
  }
  try {
    const given = values.get('insecure-registry');
    const access = disposal.use(new RegistryAccess(env, { insecure: Array.isArray(given) ? given : [] }));
    const workspace = disposal.use(await Workspace.open());
    const platform = textOf(values, 'platform');
    return await work({ access, workspace, platform, signal: ending.signal });
  } catch (cause) {
    if (interrupted !== undefined) return interrupted;
    // a full disk, a file that may not be read: what the system says is all that there is to say
    throw cause instanceof Error && 'syscall' in cause ? fail.host(cause.message, cause) : cause;
  } finally {
    await disposal[Symbol.asyncDispose]();
  }
}

/** An option's argument, if it was given. */
export function textOf(values: Arguments['values'], name: string): string | undefined {
  const value = values.get(name);
  return typeof value === 'string' ? value : undefined;
}

/** A whole number from an option; throws `CONFIG` for what is none or out of range. */
export function numberOf(
  values: Arguments['values'],
  name: string,
  o: { fallback: number; least: number; most: number },
): number {
  const text = textOf(values, name);
  if (text === undefined) return o.fallback;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= o.least && value <= o.most) return value;
  throw fail.config(`invalid argument "${text}" for "--${name}" flag: must be from ${o.least} to ${o.most}`);
}
