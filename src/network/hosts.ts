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
 * `extraHosts` are `name:address`; the address `host-gateway` stands for the gateway, and such a line is left out
 * where there is none. `hostText`: the host's own file, to begin with instead (network mode `host`).
 */
export function hostsFile(o: {
  hostname: string;
  domainname: string;
  ipAddress?: string;
  gateway?: string;
  extraHosts: readonly string[];
  hostText?: string;
}): string {
  const lines = o.hostText === undefined ? [...loopback] : [o.hostText.replace(/\n$/, '')];
  for (const extra of o.extraHosts) {
    const [name = '', ...rest] = extra.split(':'); // what follows may be an IPv6 address
    const given = rest.join(':');
    const address = given === 'host-gateway' ? o.gateway : given;
    if (address !== undefined && address !== '') lines.push(`${address}\t${name}`);
  }
  if (o.ipAddress !== undefined && o.hostname !== '') {
    // a host name may be a whole one already
    const whole = o.domainname === '' ? o.hostname : `${o.hostname}.${o.domainname}`;
    const [first = ''] = whole.split('.', 1);
    lines.push(`${o.ipAddress}\t${whole === first ? whole : `${whole} ${first}`}`);
  }
  return `${lines.join('\n')}\n`;
}
