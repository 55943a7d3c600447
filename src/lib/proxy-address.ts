import { percentDecode } from './url.ts';

/** Which proxies to use, as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say it; empty for none. */
export interface ProxySettings {
  readonly http: string;
  readonly https: string;
  /** Hosts that are reached straight, separated by commas. */
  readonly no: string;
}

/** Why a proxy's address cannot be used, without the user name and password that may be in it. */
export class ProxyAddressError extends Error {
  override name = 'ProxyAddressError';
}

/** Reads a proxy's address; `http://` may be left out. Throws {@link ProxyAddressError}. */
export function parseProxy(address: string): URL {
  const text = /^[a-z][a-z0-9+.-]*:\/\//i.test(address) ? address : `http://${address}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.hostname === '') {
    throw new ProxyAddressError(`invalid proxy address ${JSON.stringify(withoutCredentials(address))}`);
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new ProxyAddressError(`unsupported proxy scheme ${JSON.stringify(url.protocol.slice(0, -1))}`);
  }
  return url;
}

/** The value of `Proxy-Authorization` for a proxy whose address has a user name in it. */
export function proxyAuthorization({ username, password }: URL): string | undefined {
  if (username === '') return undefined;
  const pair = `${percentDecode(username) ?? username}:${percentDecode(password) ?? password}`;
  return `Basic ${Buffer.from(pair).toString('base64')}`;
}

/** A proxy's address as it may be shown. */
export function withoutCredentials(address: string): string {
  return address.replace(/^([a-z][a-z0-9+.-]*:\/\/)?[^/]*@/i, '$1xxxxx:xxxxx@');
}
