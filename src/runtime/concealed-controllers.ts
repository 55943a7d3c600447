import { join } from 'node:path';
import type { CgroupLayout } from '../host/cgroup.ts';

/** A program that runs another one: what comes before the other's path. */
export interface Wrapper {
  readonly path: string;
  readonly args: readonly string[];
}

/** unshare(2) and mount(2), by the names that Node has for machines. */
const systemCalls: Readonly<Record<string, readonly [unshare: number, mount: number]>> = {
  x64: [272, 165],
  arm64: [97, 40],
  arm: [337, 21],
};

/** Where crun looks, and nowhere else (libcrun/cgroup-utils.c). */
const UNIFIED = '/sys/fs/cgroup/unified';

/**
 * Runs crun, which refuses a hybrid cgroup mount with controllers left in the unified hierarchy, with an empty list of them
 * before its eyes: in a mount namespace of its own, where all else is as it was and what is mounted elsewhere arrives. They are none that
 * it would use: it takes every limit to the old hierarchies. Perl is on every Debian (perl-base is essential) and takes 2 ms, util-linux and a
 * shell would take 6. Undefined where that cannot be.
 */
export function concealControllers(
  perl: string | undefined,
  { mounts }: CgroupLayout,
  arch: string = process.arch,
): Wrapper | undefined {
  const calls = systemCalls[arch];
  if (perl === undefined || calls === undefined || mounts.get('unified') !== UNIFIED) return undefined;
  const [unshare, mount] = calls;
  // Perl's syscall takes numbers as they are and strings by their address, which must be variables'
  const script = [
    `my ($none, $null, $tree, $list) = ("", "/dev/null", "${UNIFIED}", "${join(UNIFIED, 'cgroup.controllers')}");`,
    'sub must { $_[0] == 0 or die "cannot conceal the controllers of cgroup v2: $!\\n" }',
    `must(syscall(${unshare}, 0x20000));`, // CLONE_NEWNS
    `must(syscall(${mount}, $none, $tree, $none, 0x40000, 0));`, // MS_PRIVATE: the host keeps what it has
    `must(syscall(${mount}, $null, $list, $none, 0x1000, 0));`, // MS_BIND
    'exec { $ARGV[0] } @ARGV or die "$ARGV[0]: $!\\n";',
  ];
  return { path: perl, args: ['-e', script.join(' ')] };
}
