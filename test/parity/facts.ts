/**
 * What a container can tell of itself: how it is confined and what it was given. The script prints sections that begin
 * with `@@ NAME`; whoever runs it, and whatever it cannot read, it ends with 0.
 */
export const factsScript = `
facts() {
exec 2>&1
at() { echo "@@ $1"; }
at status; grep -E '^(Umask|Uid|Gid|Groups|SigBlk|SigIgn|Cap|NoNewPrivs|Seccomp|Cpus_allowed_list|Mems_allowed_list)' /proc/self/status
at limits; cat /proc/self/limits
at mountinfo; cut -d' ' -f4- /proc/self/mountinfo
at cgroup; cat /proc/self/cgroup
at id; id; pwd; umask; hostname; date +%Z
at env; env | sort
at fds; for fd in /proc/$$/fd/*; do echo "\${fd##*/} $(readlink $fd)"; done
at session; sed 's/.*) . //' /proc/$$/stat | cut -d' ' -f1-5 | sed "s/\\b$$\\b/self/g"
at priority; sed 's/.*) . //' /proc/$$/stat | cut -d' ' -f15,16,37,38
at attributes; for file in oom_score_adj coredump_filter personality loginuid sessionid timerslack_ns uid_map gid_map setgroups attr/current keys; do echo "$file: $(cat /proc/self/$file)"; done
at first; cat /proc/1/comm; ps -o pid,user,comm
at namespaces; for file in /proc/self/ns/*; do readlink $file; done
at dev; find /dev -exec stat -c '%n %F %a %u:%g %t,%T' {} +; for file in /dev/core /dev/fd /dev/ptmx /dev/stdin /dev/stdout /dev/stderr; do readlink $file; done
at masked; for file in /proc/acpi /proc/asound /proc/bus /proc/fs /proc/interrupts /proc/irq /proc/kcore /proc/kallsyms /proc/keys /proc/kmsg /proc/latency_stats /proc/scsi /proc/sched_debug /proc/sys /proc/sysrq-trigger /proc/timer_list /sys/firmware /sys/kernel/security /sys/devices/virtual/powercap; do stat -c '%n %F %a' $file; done; ls /proc/acpi /sys/firmware | head -3; for file in /proc/timer_list /proc/keys; do head -c 1 $file | wc -c; done
at writable; for file in / /tmp /etc/hosts /etc/hostname /etc/resolv.conf /proc/sys/kernel/shmmax /proc/sysrq-trigger /sys /sys/fs/cgroup /dev /dev/shm; do test -w $file && echo $file; done
at sysctls; for file in kernel/domainname kernel/hostname kernel/shmmax kernel/shmall kernel/msgmax fs/mqueue/msg_max net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range net/ipv4/ip_forward net/ipv4/conf/all/route_localnet net/ipv6/conf/all/disable_ipv6 net/core/somaxconn; do echo "$file: $(cat /proc/sys/$file)"; done
at etc; ls -ln /etc/hosts /etc/hostname /etc/resolv.conf | sed 's/  */ /g' | cut -d' ' -f1-4,9; for file in hosts hostname resolv.conf; do echo "$file:"; cat /etc/$file; done; readlink /etc/mtab
at tree; find / -xdev -path /proc -prune -o -path /sys -prune -o -path /dev -prune -o -exec stat -c '%n %F %a %u:%g' {} + | sort
at network; ip -o addr; ip route; ip -6 route
at limited; cd /sys/fs/cgroup && for file in memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory/memory.soft_limit_in_bytes memory/memory.swappiness memory/memory.oom_control memory/memory.use_hierarchy cpu/cpu.shares cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu/cpu.idle cpuset/cpuset.cpus cpuset/cpuset.mems pids/pids.max devices/devices.list blkio/blkio.throttle.read_bps_device blkio/blkio.throttle.write_bps_device blkio/blkio.throttle.read_iops_device blkio/blkio.throttle.write_iops_device freezer/freezer.state; do echo "$file: $(cat $file)"; done
at end
}
( facts )
true
`;

/** Lines by the name of their section; what came before the first is under the empty name. */
export function sectionsOf(output: string): Map<string, string[]> {
  const sections = new Map<string, string[]>([['', []]]);
  let name = '';
  for (const line of output.split('\n')) {
    if (line.startsWith('@@ ')) {
      name = line.slice(3).trim();
      sections.set(name, []);
    } else sections.get(name)?.push(line);
  }
  return sections;
}
