import { lookup } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';
import { fail } from '../errors.ts';

/**
 * The registries that may be spoken to without a verified certificate, or without TLS at all. This machine itself
 * always is one. An entry is `host`, `host:port` (matched as written, as dockerd does) or a network in CIDR form.
 */
export class InsecureHosts {
  readonly #names = new Set<string>();
  readonly #networks = new BlockList();
  readonly #hasNetworks: boolean;

  /** Throws `CONFIG` for an entry that is none of the three. */
  constructor(entries: readonly string[]) {
    let hasNetworks = false;
    for (const entry of entries) {
      const name = entry.replace(/^https?:\/\//i, '');
      if (!name.includes('/')) this.#names.add(name.toLowerCase());
      else {
        this.#addNetwork(name);
        hasNetworks = true;
      }
    }
    this.#hasNetworks = hasNetworks;
    this.#networks.addSubnet('127.0.0.0', 8, 'ipv4');
    this.#networks.addAddress('::1', 'ipv6');
  }

  /**
   * True if `host[:port]` is one of them. A name is looked up only where networks were configured: whoever answers
   * for a name must not be able to switch TLS off by answering with a loopback address.
   */
  async has(host: string): Promise<boolean> {
    const wanted = host.toLowerCase();
    if (this.#names.has(wanted)) return true;
    const name = wanted.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
    if (name === 'localhost') return true;
    if (isIP(name) !== 0) return this.#covers(name);
    if (!this.#hasNetworks) return false;
    const found = await lookup(name, { all: true }).catch(() => []);
    return found.some(({ address }) => this.#covers(address));
  }

  #covers(address: string): boolean {
    return this.#networks.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
  }

  #addNetwork(text: string): void {
    const [address = '', bits = '', ...more] = text.split('/');
    const family = isIP(address);
    const prefix = Number(bits);
    const isPrefix = /^\d{1,3}$/.test(bits) && prefix <= (family === 6 ? 128 : 32);
    if (family === 0 || !isPrefix || more.length > 0) {
      throw fail.config(`insecure registry ${text} is neither a host nor a network in CIDR form`);
    }
    this.#networks.addSubnet(address, prefix, family === 6 ? 'ipv6' : 'ipv4');
  }
}
