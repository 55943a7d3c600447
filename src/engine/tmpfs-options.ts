import { fail } from '../errors.ts';
import type { MountRequest } from './model.ts';

/**
 * The options of a container's tmpfs, as dockerd merges them (moby/sys, mount/flags_unix.go): of those that contradict
 * each other, and of those with the same key, the last one holds.
 */

const defaults = ['noexec', 'nosuid', 'nodev', 'rprivate'];

/** Words of one row contradict each other. */
const flags: readonly (readonly string[])[] = [
  ['ro', 'rw'],
  ['suid', 'nosuid'],
  ['dev', 'nodev'],
  ['exec', 'noexec'],
  ['sync', 'async'],
  ['dirsync'],
  ['remount'],
  ['mand', 'nomand'],
  ['atime', 'noatime'],
  ['diratime', 'nodiratime'],
  ['relatime', 'norelatime'],
  ['strictatime', 'nostrictatime'],
  [
    ...['bind', 'rbind', 'unbindable', 'runbindable', 'private', 'rprivate'],
    ...['shared', 'rshared', 'slave', 'rslave'],
  ],
];

const keys = new Set(['size', 'mode', 'uid', 'gid', 'nr_inodes', 'nr_blocks', 'mpol']);

/** The options of a mount at `text`'s wish, dockerd's defaults below it. Throws 500 for one that is none. */
export function tmpfsOptions(text: string): string[] {
  const taken = new Set<unknown>();
  const kept: string[] = [];
  const given = text === '' ? [] : text.split(',');
  for (const option of [...defaults, ...given].reverse()) {
    if (option === 'defaults') continue;
    const kind = flags.find((words) => words.includes(option)) ?? keyOf(option);
    if (!taken.has(kind)) kept.unshift(option);
    taken.add(kind);
  }
  return kept;
}

/** `TmpfsOptions` as text, as a key of `Tmpfs` has them. */
export function tmpfsText({ readOnly, tmpfsOptions: options }: MountRequest): string {
  const { sizeBytes = 0, mode = 0 } = options ?? {};
  return [
    ...(readOnly === true ? ['ro'] : []),
    ...(mode === 0 ? [] : [`mode=${mode.toString(8)}`]),
    ...(sizeBytes === 0 ? [] : [`size=${sizeBytes}`]),
  ].join(',');
}

function keyOf(option: string): string {
  const [key = '', ...rest] = option.split('=');
  if (rest.length > 0 && keys.has(key)) return key;
  // Go's %q of the option's parts
  const parts = rest.length === 0 ? [key] : [key, rest.join('=')];
  throw fail.host(`invalid tmpfs option [${parts.map((part) => JSON.stringify(part)).join(' ')}]`);
}
