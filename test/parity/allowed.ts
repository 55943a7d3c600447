import type { Allowed } from './differences.ts';

/** All that this engine does differently from dockerd 20.10, on purpose. */
export const allowed: readonly Allowed[] = [
  {
    part: 'inspect',
    line: /^(GraphDriver\.Data\.|LogPath|HostnamePath|HostsPath|ResolvConfPath)/,
    reason: 'each engine has places of its own',
  },
  {
    part: 'inspect',
    line: /^NetworkSettings\.Sandbox(ID|Key)/,
    reason:
      'there are no sandboxes: a name space lives by its processes, and is shown as one of them while they run',
  },
  {
    part: 'inspect',
    line: /^NetworkSettings\.Networks\.none\.NetworkID/,
    reason: 'a start that failed leaves no trace of the networks that it was to be on',
  },
  {
    part: 'inspect',
    line: /^HostConfig\.MaskedPaths\.10: "\/sys\/devices\/virtual\/powercap"/,
    reason: 'masked as by dockerd 24 (CVE-2020-8694)',
  },
  {
    part: 'limited',
    line: /^c 5:1 rwm\r?$/,
    reason: "a container's console is its own terminal; the host's stays closed",
  },
  {
    part: 'network',
    line: /^lo +inet6 ::1\/128/,
    reason: 'loopback has IPv6, as with dockerd 26',
  },
  {
    part: 'sysctls',
    line: /^net\/ipv6\/conf\/all\/disable_ipv6/,
    reason: 'loopback has IPv6, as with dockerd 26; each other interface has none',
  },
  {
    row: 'exec as root into a user',
    part: 'fds',
    line: /^[012]\b/,
    reason:
      'dockerd lets it gain its capabilities in execve, by which /proc is closed to it; they are the same',
  },
];
