import { closeSync, constants, openSync } from 'node:fs';
import { MS, mount, O_PATH } from './kernel.ts';
import { succeed } from './libc.ts';

const CLONE_FS = 0x200;
const CLONE_NEWNS = 0x20000;

/**
 * For processes of their own, whose main thread does all the work: what these calls change is the main thread's alone,
 * and for good.
 */

/**
 * The root of a mount namespace, as a descriptor of `O_PATH`. All that is mounted there is seen through it, for as long as
 * the namespace lives: its own descriptor must stay open. Where its processes have their `/` makes no difference.
 */
export function rootOfMountNamespace(namespace: number): number {
  const home = openSync('/proc/thread-self/ns/mnt', 'r');
  try {
    // who shares its root and working directory with others may not change them behind their back
    succeed('unshare', undefined, (c) => c.unshare(CLONE_FS));
    enter(namespace);
    try {
      return openSync('/', O_PATH | constants.O_DIRECTORY);
    } finally {
      enter(home);
    }
  } finally {
    closeSync(home);
  }
}

/** Leaves for a mount namespace of its own: what is mounted there is nobody else's; what others unmount goes here too. */
export function leaveForOwnMounts(): void {
  succeed('unshare', undefined, (c) => c.unshare(CLONE_NEWNS));
  mount('none', '/', { flags: MS.REC | MS.SLAVE });
}

function enter(namespace: number): void {
  succeed('setns', undefined, (c) => c.setns(namespace, CLONE_NEWNS));
}
