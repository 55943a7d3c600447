import { BlockList, isIP } from 'node:net';
import { domainToASCII } from 'node:url';
import { type ProxySettings, parseProxy } from '../lib/proxy-address.ts';

/** One entry of `NO_PROXY`. */
type Exception = (host: string, port: string) => boolean;

/** The way to each address: through which proxy, or straight. By the rules of Go's httpproxy, which dockerd follows. */
export class Proxies {
  readonly #settings: ProxySettings;
  readonly #exceptions: readonly Exception[];

  constructor(settings: ProxySettings) {
    this.#settings = settings;
    this.#exceptions = exceptionsOf(settings.no);
  }

  /** The proxy for an http or https address; undefined for none. Throws a ProxyAddressError. */
  for({ protocol, hostname, port }: URL): URL | undefined {
    const address = protocol === 'https:' ? this.#settings.https : this.#settings.http;
    if (address === '') return undefined;
    const host = hostname.replace(/^\[(.*)\]$/, '$1').toLowerCase();
    if (isThisMachine(host)) return undefined;
    const wanted = port || (protocol === 'https:' ? '443' : '80');
    if (this.#exceptions.some((covers) => covers(host, wanted))) return undefined;
    return parseProxy(address);
  }
}

function isThisMachine(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

function exceptionsOf(text: string): Exception[] {
  return text.split(',').flatMap((part) => exceptionOf(part.trim().toLowerCase()) ?? []);
}

function exceptionOf(entry: string): Exception | undefined {
  if (entry === '') return undefined;
  if (entry === '*') return () => true;
  const network = networkOf(entry);
  if (network !== undefined) return (host) => isIP(host) !== 0 && network.check(host, familyOf(host));
  const { host: named, port } = splitPort(entry);
  if (named === '') return undefined;
  const fits = (wanted: string) => port === undefined || port === wanted;
  if (isIP(named) !== 0) {
    const one = new BlockList();
    one.addAddress(named, familyOf(named));
    return (host, wanted) => isIP(host) !== 0 && one.check(host, familyOf(host)) && fits(wanted);
  }
  // `.a.b` and `*.a.b` are for what is below a.b, `a.b` is for it as well
  const domain = named.replace(/^\*?\./, '');
  const isItself = domain === named;
  const ascii = domainToASCII(domain) || domain;
  return (host, wanted) => ((isItself && host === ascii) || host.endsWith(`.${ascii}`)) && fits(wanted);
}

function networkOf(entry: string): BlockList | undefined {
  const [base = '', bits = '', more] = entry.split('/');
  const most = isIP(base) === 6 ? 128 : 32;
  if (isIP(base) === 0 || more !== undefined || !/^\d{1,3}$/.test(bits) || Number(bits) > most)
    return undefined;
  const network = new BlockList();
  network.addSubnet(base, Number(bits), familyOf(base));
  return network;
}

/** `host:port`, `[::1]:port`, or a host or address alone. */
function splitPort(entry: string): { host: string; port: string | undefined } {
  const match = /^(?:\[([^\]]*)\]|([^:]*)):(\d+)$/.exec(entry);
  if (match !== null) return { host: match[1] ?? match[2] ?? '', port: match[3] };
  return { host: entry.replace(/^\[(.*)\]$/, '$1'), port: undefined };
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4';
}
