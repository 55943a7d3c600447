/** What every /etc/hosts begins with, whatever the container. */
const loopback = [
  '127.0.0.1\tlocalhost',
  '::1\tlocalhost ip6-localhost ip6-loopback',
  'fe00::0\tip6-localnet',
  'ff00::0\tip6-mcastprefix',
  'ff02::1\tip6-allnodes',
  'ff02::2\tip6-allrouters',
];

/**
 * A container's /etc/hosts: loopback, the user's own lines, then its own name, in dockerd's order.
 * `extraHosts` are `name:address`; the address `host-gateway` stands for what the engine has for it. `hostText`: the
 * host's own file (network mode `host`), unless there are lines of the user's.
 */
export function hostsFile(o: {
  hostname: string;
  domainname: string;
  ipAddress?: string;
  hostGateway: string;
  extraHosts: readonly string[];
  hostText?: string;
}): string {
  // dockerd does not mix the host's file with others' lines
  if (o.hostText !== undefined && o.extraHosts.length === 0) return o.hostText;
  const lines = [...loopback];
  for (const extra of o.extraHosts) {
    const [name = '', ...rest] = extra.split(':'); // what follows may be an IPv6 address
    const given = rest.join(':');
    lines.push(`${given === 'host-gateway' ? o.hostGateway : given}\t${name}`);
  }
  if (o.ipAddress !== undefined && o.hostname !== '') {
    // a host name may be a whole one already
    const whole = o.domainname === '' ? o.hostname : `${o.hostname}.${o.domainname}`;
    const [first = ''] = whole.split('.', 1);
    lines.push(`${o.ipAddress}\t${whole === first ? whole : `${whole} ${first}`}`);
  }
  return `${lines.join('\n')}\n`;
}
