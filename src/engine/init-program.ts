import { isAbsolute, join } from 'node:path';
import { fail } from '../errors.ts';
import { findProgram } from '../runtime/runtimes.ts';
import type { HostConfig } from './model.ts';
import type { BundleMount } from './mounts.ts';

/** Where the init process is in a container. */
export const initInContainer = '/sbin/docker-init';

/** As dockerd calls it, and as Debian does. */
const names = ['docker-init', 'tini-static'];
const directories = [
  '/usr/local/libexec/docker',
  '/usr/libexec/docker',
  '/usr/local/lib/docker',
  '/usr/lib/docker',
];

/** Whether a container gets an init process. In a PID namespace that it shares there is one already. */
export function wantsInit(
  { init, pidMode }: Pick<HostConfig, 'init' | 'pidMode'>,
  isDefault: boolean,
): boolean {
  return (init ?? isDefault) && pidMode === '';
}

/** The mount that brings the init process into a container. Throws 500 in dockerd's words where there is no such program. */
export function initMount(configured: string | undefined): BundleMount {
  return {
    destination: initInContainer,
    type: 'bind',
    source: findInit(configured),
    options: ['bind', 'ro'],
  };
}

function findInit(configured: string | undefined): string {
  if (configured !== undefined && isAbsolute(configured)) return configured;
  const wanted = configured === undefined ? names : [configured];
  for (const name of wanted) {
    for (const path of [...directories.map((directory) => join(directory, name)), name]) {
      const found = findProgram(path);
      if (found !== undefined) return found;
    }
  }
  throw fail.host(`exec: "${wanted[0]}": executable file not found in $PATH`);
}
