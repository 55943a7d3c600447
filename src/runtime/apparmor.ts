import { readFile } from 'node:fs/promises';
import { fail } from '../errors.ts';
import { run } from '../host/exec.ts';
import { findProgram } from './runtimes.ts';

/** The profile of containers that name none, under dockerd's name: others' rules may speak of it. */
export const defaultProfile = 'docker-default';
export const unconfinedProfile = 'unconfined';

const loadedProfiles = '/sys/kernel/security/apparmor/profiles';

/**
 * What a container must not do even as root: write to the kernel's own files, mount, trace what is outside. Signals and
 * traces stay among those with the same profile, but for the runtime and the host, which may end them.
 */
const profileText = `#include <tunables/global>

profile ${defaultProfile} flags=(attach_disconnected,mediate_deleted) {
  #include <abstractions/base>

  network,
  capability,
  file,
  umount,

  signal (receive) peer=unconfined,
  signal (receive) peer=runc,
  signal (receive) peer=crun,
  signal (send,receive) peer=${defaultProfile},
  ptrace (trace,read,tracedby,readby) peer=${defaultProfile},

  deny mount,
  deny @{PROC}/{sysrq-trigger,kcore,kmem,mem,keys,timer_list,sched_debug} rwklx,
  deny @{PROC}/{acpi,asound,scsi}/** rwklx,
  deny @{PROC}/{bus,fs,irq}/** wklx,
  deny @{PROC}/sys/{abi,crypto,debug,dev,fs,user,vm}/** wklx,
  deny /sys/{block,bus,class,dev,devices,hypervisor,kernel,module,power}/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
`;

/** Loads the default profile if the kernel has none of its name; updates of a host may take it away. Throws 500. */
export async function ensureDefaultProfile(): Promise<void> {
  const loaded = await readFile(loadedProfiles, 'utf8');
  if (loaded.split('\n').some((line) => line.startsWith(`${defaultProfile} (`))) return;
  const parser = findProgram('apparmor_parser');
  const { code, stderr } =
    parser === undefined
      ? { code: 1, stderr: 'exec: "apparmor_parser": executable file not found in $PATH' }
      : await run(parser, ['-Kr'], { input: profileText });
  if (code !== 0) {
    throw fail.runtime(
      `AppArmor enabled on system but the ${defaultProfile} profile could not be loaded: ${stderr.trim()}`,
    );
  }
}
