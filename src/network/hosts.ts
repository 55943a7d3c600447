import { isIPv6 } from 'node:net';

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
 * A container's /etc/hosts before it has addresses: loopback, the user's own lines, and links. Its own come behind them.
 * `extraHosts` are `name:address`; the address `host-gateway` stands for what the engine has for it. `hostText`: the
 * host's own file (network mode `host`), unless there are lines of the user's.
 */
export function hostsFile(o: {
  hostGateway: string;
  extraHosts: readonly string[];
  /** Lines for containers that it is linked to. */
  links?: readonly string[];
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
  return `${[...lines, ...(o.links ?? [])].join('\n')}\n`;
}

/** A container's own lines, one for each of its addresses. */
export function ownLines(o: {
  hostname: string;
  domainname: string;
  addresses: readonly string[];
}): string[] {
  if (o.hostname === '') return [];
  // a host name may be a whole one already
  const whole = o.domainname === '' ? o.hostname : `${o.hostname}.${o.domainname}`;
  const [first = ''] = whole.split('.', 1);
  const names = whole === first ? whole : `${whole} ${first}`;
  return o.addresses.map((address) => `${address}\t${names}`);
}

/** The file with other lines of the container's own; what else somebody wrote there stays. */
export function withLines(text: string, lines: { old: readonly string[]; now: readonly string[] }): string {
  const old = new Set(lines.old);
  const kept = text.split('\n').filter((line) => !old.has(line));
  if (kept.at(-1) === '') kept.pop();
  return `${[...kept, ...lines.now].join('\n')}\n`;
}

/** The file with another address on the lines whose first name is this one. */
export function withAddress(text: string, name: string, address: string): string {
  const lines = text.split('\n').map((line) => {
    const [old = '', names = ''] = line.split('\t');
    const isMeant = names === name || names.startsWith(`${name} `) || names.startsWith(`${name}.`);
    return isMeant && isIPv6(old) === isIPv6(address) ? `${address}\t${names}` : line;
  });
  return lines.join('\n');
}
