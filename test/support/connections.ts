import type { ProxySettings } from '../../src/lib/proxy-address.ts';
import { Certificates } from '../../src/registry/certificates.ts';
import { Connections } from '../../src/registry/connections.ts';
import { Proxies } from '../../src/registry/proxies.ts';

/** Ways to hosts as the daemon makes them, by settings of the test's own. */
export function testConnections(
  o: {
    proxies?: Partial<ProxySettings>;
    /** As `/etc/docker/certs.d` would be. */
    certificates?: readonly string[];
    /** Instead of what the system's administrator vouches for. */
    bundles?: readonly string[];
    stallMs?: number;
  } = {},
): Connections {
  return new Connections({
    proxies: new Proxies({ http: '', https: '', no: '', ...o.proxies }),
    certificates: new Certificates({
      directories: o.certificates ?? [],
      ...(o.bundles && { bundles: o.bundles }),
    }),
    stallMs: o.stallMs ?? 1500,
  });
}
