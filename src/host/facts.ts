import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism, machine, hostname as readHostname, release, totalmem } from 'node:os';
import type { Platform } from '../lib/platform.ts';

/** What this machine is. */

/** USER_HZ is 100 on every architecture that we run on. */
export const TICK_NS = 10_000_000;

export function hostname(): string {
  return readHostname();
}

/** As `uname -r` prints it. */
export function kernelVersion(): string {
  return release();
}

/** The distribution's name for people, such as `Debian GNU/Linux 12 (bookworm)`. */
export function operatingSystem(): string {
  return osRelease('PRETTY_NAME') ?? 'Linux';
}

/** The distribution's version, such as `12`; empty where it has none. */
export function osVersion(): string {
  return osRelease('VERSION_ID') ?? '';
}

/** As `uname -m` prints it: `x86_64`, `aarch64`, `armv7l`. */
export function architecture(): string {
  return machine();
}

/** How many processors this process may use. */
export function cpus(): number {
  return availableParallelism();
}

/** What all processors together have spent since boot, idle time included, in nanoseconds. */
export function systemCpuNs(): number {
  // proc(5), /proc/stat: user nice system idle iowait irq softirq, in ticks of USER_HZ
  const [, ...ticks] =
    /^cpu +(\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)/.exec(readText('/proc/stat') ?? '') ?? [];
  return ticks.reduce((sum, count) => sum + Number(count), 0) * TICK_NS;
}

export function memoryBytes(): number {
  return totalmem();
}

/** The platform whose images run here: that of this program, as a 64-bit kernel may carry a 32-bit system. */
export function platform(): Platform {
  const names: Partial<Record<NodeJS.Architecture, string>> = { x64: 'amd64', ia32: '386' };
  const architecture = names[process.arch] ?? process.arch;
  if (process.arch !== 'arm') return { os: 'linux', architecture };
  // armv6l, armv7l; a 64-bit processor in 32-bit clothes says aarch64 or armv8l
  const level = /^armv(\d)/.exec(machine())?.[1] ?? '8';
  return { os: 'linux', architecture, variant: `v${level}` };
}

/**
 * The board's name by its firmware (`Raspberry Pi 4 Model B Rev 1.4`); undefined where there is no device
 * tree.
 */
export function deviceTreeModel(): string | undefined {
  return readText('/proc/device-tree/model')?.replace(/\0.*$/s, '').trim();
}

/** Whether the kernel can filter system calls. */
export function hasSeccomp(): boolean {
  return existsSync('/proc/sys/kernel/seccomp/actions_avail') || statusOf('Seccomp') !== undefined;
}

/** Whether the kernel confines programs by AppArmor profiles, and lets us see which it has. */
export function hasAppArmor(): boolean {
  return readText('/sys/kernel/security/apparmor/profiles') !== undefined;
}

export function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

/** The bounding set: the most that any container here can be given, lowest bit first. */
export function capabilities(): string[] {
  return capabilitiesIn(BigInt(`0x${statusOf('CapBnd') ?? '0'}`));
}

/** The names of a capability mask's bits. Bits that this program has no name for are left out. */
export function capabilitiesIn(mask: bigint): string[] {
  return CAPABILITIES.filter((_, bit) => (mask >> BigInt(bit)) & 1n);
}

/** linux/capability.h, by number. */
const CAPABILITIES: readonly string[] = (
  'CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE ' +
  'NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT ' +
  'SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL ' +
  'SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE'
)
  .split(' ')
  .map((name) => `CAP_${name}`);

function statusOf(key: string): string | undefined {
  return new RegExp(`^${key}:\\s*(.*)$`, 'm').exec(readText('/proc/self/status') ?? '')?.[1];
}

/** os-release(5): shell-like assignments, quoted or not. */
function osRelease(key: string): string | undefined {
  const text = readText('/etc/os-release') ?? readText('/usr/lib/os-release') ?? '';
  const value = new RegExp(`^${key}=(.*)$`, 'm').exec(text)?.[1];
  return value?.replace(/^(["'])(.*)\1$/, '$2').replace(/\\(["'$`\\])/g, '$1');
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
