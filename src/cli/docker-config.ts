import { join } from 'node:path';
import { readIfThere } from '../host/files.ts';
import type { Terminal } from './terminal.ts';

/**
 * The credentials that `docker login` wrote into its own file, by server; none if there is no such file. What it gave to
 * a program of its own to keep (`credsStore`) stays there.
 */
export async function readCredentials(env: Terminal['env']): Promise<Record<string, object>> {
  const directory = env['DOCKER_CONFIG'] || join(env['HOME'] || '/root', '.docker');
  const bytes = await readIfThere(join(directory, 'config.json'));
  try {
    const { auths } = JSON.parse(bytes?.toString() ?? '{}');
    const given = typeof auths === 'object' && auths !== null ? Object.entries(auths) : [];
    const known = given.filter(
      (entry): entry is [string, object] => typeof entry[1] === 'object' && entry[1] !== null,
    );
    return Object.fromEntries(known.filter(([, auth]) => Object.keys(auth).length > 0));
  } catch {
    return {}; // docker itself complains of it, and knows better what to say
  }
}
