import { isIPv6 } from 'node:net';
import { readIfThere } from '../host/files.ts';

const HOST_FILE = '/etc/resolv.conf';

/** Where systemd-resolved keeps the servers that it asks itself. */
const UPSTREAM_FILE = '/run/systemd/resolve/resolv.conf';

/** For a container that would be left without any name server, as with dockerd. */
const publicServers: readonly string[] = ['8.8.8.8', '8.8.4.4'];

/** Where containers on networks with names find their name server. */
export const NAME_SERVER = '127.0.0.11';

/** A container's own settings; an empty list leaves the host's. */
export interface ResolverWishes {
  dns: readonly string[];
  dnsSearch: readonly string[];
  dnsOptions: readonly string[];
}

/**
 * The host's resolv.conf; where that names nothing but systemd-resolved's local stub, which no other network
 * namespace can reach, the file with the servers behind it.
 */
export async function hostResolvConf(): Promise<string> {
  const text = (await readIfThere(HOST_FILE))?.toString() ?? '';
  const servers = nameServers(text);
  if (servers.length !== 1 || servers[0] !== '127.0.0.53') return text;
  return (await readIfThere(UPSTREAM_FILE))?.toString() ?? text;
}

/**
 * A container's /etc/resolv.conf by dockerd's rules: with wishes, a new file of these and, for what was not wished,
 * of the host's values; without, the host's text. Servers of the host that cannot be reached from inside are left
 * out: those on its loopback, and on the IPv4-only bridge those with IPv6 addresses. A wished server is always kept.
 */
export function resolvConf(
  hostText: string,
  { dns, dnsSearch, dnsOptions }: ResolverWishes,
  network: 'bridge' | 'host' | 'none',
): string {
  const base = network === 'host' ? hostText : withoutUnreachable(hostText, network === 'bridge');
  if (dns.length === 0 && dnsSearch.length === 0 && dnsOptions.length === 0) return base;
  const servers = dns.length > 0 ? dns : nameServers(base);
  const domains = dnsSearch.length > 0 ? dnsSearch : valuesOf(base, ['search', 'domain']);
  const options = dnsOptions.length > 0 ? dnsOptions : valuesOf(base, ['options']);
  const lines = servers.map((server) => `nameserver ${server}`);
  // a lone dot is how a user says: no search domains
  if (domains.length > 0 && domains.join(' ') !== '.') lines.unshift(`search ${domains.join(' ')}`);
  if (options.length > 0) lines.push(`options ${options.join(' ')}`);
  return `${lines.join('\n')}\n`;
}

/** A container's resolv.conf that names the engine's own server, and what that must know to ask others. */
export interface OwnResolvConf {
  text: string;
  /** The container's own name servers; empty: the host's are asked. */
  dns: string[];
  /** Somebody wants `ndots` to be as it is. */
  isNdotsSet: boolean;
}

/**
 * On a network with names, by dockerd's rules: the one server is the engine's. Names without a dot are asked for as
 * they are, unless somebody wants it otherwise.
 */
export function ownResolvConf(
  hostText: string,
  { dns, dnsSearch, dnsOptions }: ResolverWishes,
): OwnResolvConf {
  const options = dnsOptions.length > 0 ? dnsOptions : valuesOf(hostText, ['options']);
  const usable = options.filter((option) => !/^ndots:(?!\d+$)/.test(option));
  const isNdotsSet = usable.some((option) => option.startsWith('ndots:'));
  const wishes: ResolverWishes = {
    dns: [NAME_SERVER],
    dnsSearch,
    dnsOptions: isNdotsSet ? usable : [...usable, 'ndots:0'],
  };
  return { text: resolvConf(hostText, wishes, 'host'), dns: [...dns], isNdotsSet };
}

/** The name servers that a resolv.conf names, zones of link-local addresses included. */
export function nameServers(text: string): string[] {
  return statements(text).flatMap(([keyword, server]) =>
    keyword === 'nameserver' && server !== undefined ? [server] : [],
  );
}

function withoutUnreachable(text: string, isIpv4Only: boolean): string {
  const kept = text.split('\n').filter((line) => {
    const [server] = nameServers(line);
    if (server === undefined) return true;
    const isLoopback = server.startsWith('127.') || server === '::1';
    return !isLoopback && !(isIpv4Only && isIPv6(server));
  });
  const rest = kept.join('\n');
  if (nameServers(rest).length > 0) return rest;
  const lines = publicServers.map((server) => `nameserver ${server}\n`).join('');
  return rest === '' || rest.endsWith('\n') ? rest + lines : `${rest}\n${lines}`;
}

/** The values of the last such line: resolv.conf(5), later ones win. */
function valuesOf(text: string, keywords: readonly string[]): string[] {
  return (
    statements(text)
      .findLast(([keyword = '']) => keywords.includes(keyword))
      ?.slice(1) ?? []
  );
}

/** The lines as words, comments left out. */
function statements(text: string): string[][] {
  return text
    .split('\n')
    .map((line) => line.replace(/[#;].*/, '').trim())
    .filter((line) => line !== '')
    .map((line) => line.split(/\s+/));
}
