import { existsSync } from 'node:fs';
import type { CgroupLayout } from '../host/cgroup.ts';
import { hasAppArmor, hasSeccomp, kernelVersion, platform } from '../host/facts.ts';
import type { SpecHost } from './spec.ts';

/** dockerd lets processes in a network namespace of their own open any port, and ping, without a capability. */
export function specHost(cgroups: CgroupLayout): SpecHost {
  const wanted = { 'net.ipv4.ip_unprivileged_port_start': '0', 'net.ipv4.ping_group_range': '0 2147483647' };
  const networkSysctls = Object.entries(wanted).filter(([name]) =>
    existsSync(`/proc/sys/${name.replaceAll('.', '/')}`),
  );
  return {
    architecture: platform().architecture,
    kernel: kernelVersion(),
    hasSeccomp: hasSeccomp(),
    hasAppArmor: hasAppArmor(),
    cgroupVersion: cgroups.version,
    networkSysctls: Object.fromEntries(networkSysctls),
  };
}
