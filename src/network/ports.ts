import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, isIPv6 } from 'node:net';
import { type Failure, fail } from '../errors.ts';
import { errnoText } from '../lib/errno.ts';
import { formatAddress, parseAddress } from './subnets.ts';

export type Protocol = 'tcp' | 'udp' | 'sctp';

/** A wish to reach a container's port by one of the host's. */
export interface PortRequest {
  containerPort: number;
  protocol: Protocol;
  /** Empty: any address of the host. */
  hostIp: string;
  /** 0: any free port of the ephemeral range. */
  hostPort: number;
  /** The end of a range, any port of which will do. */
  hostPortEnd?: number;
}

/** A port of the host that leads to a container's address of the same family. */
export interface PortMapping {
  containerPort: number;
  protocol: Protocol;
  /** `0.0.0.0` or `::`: any address of the host. */
  hostIp: string;
  hostPort: number;
}

/** Where ports are published for one container. */
export interface PortPlan {
  /** For requests without one; default `0.0.0.0`, with which they are published on IPv6 too where that is possible. */
  hostIp?: string;
  /** The container has an IPv6 address that packets can be sent on to. */
  isIpv6?: boolean;
}

const FIRST_EPHEMERAL = 49153;
const LAST_EPHEMERAL = 65535;

const ANY_IPV4 = '0.0.0.0';
const ANY_IPV6 = '::';

/** How many ports of a range are tried that turn out to be in use by other processes. */
const MAX_TRIES = 100;

/**
 * The host's ports that lead into containers. Each is held by a socket of this process that never serves anyone: the
 * firewall sends packets elsewhere before they get here. So a port that another process uses is refused, and no other
 * process can take one of ours as long as the daemon runs. SCTP, which Node cannot speak, is only checked among ours.
 *
 * A port on IPv6 leads to a container's IPv6 address and to nothing else: the kernel does not translate between the
 * families, and there is no proxy that would.
 */
export class HostPorts implements AsyncDisposable {
  readonly #held = new Map<string, { mapping: PortMapping; holder?: AsyncDisposable }>();
  #nextEphemeral = FIRST_EPHEMERAL;

  /** Ports for all of the requests, or none; failures are in dockerd's words. */
  async reserve(requests: readonly PortRequest[], plan: PortPlan = {}): Promise<PortMapping[]> {
    const mappings: PortMapping[] = [];
    try {
      for (const request of requests)
        mappings.push(...(await this.#reserveOne(request, addressesFor(request, plan))));
      return mappings;
    } catch (cause) {
      await this.release(mappings);
      throw cause;
    }
  }

  /** Takes ports that are in force already, and returns those that another process holds by now. */
  async adopt(mappings: readonly PortMapping[]): Promise<PortMapping[]> {
    const lost: PortMapping[] = [];
    for (const mapping of mappings) {
      if (this.#held.has(keyOf(mapping))) continue;
      try {
        await this.#hold(mapping);
      } catch {
        lost.push(mapping);
        this.#held.set(keyOf(mapping), { mapping });
      }
    }
    return lost;
  }

  /** Ports that are not held are fine. */
  async release(mappings: readonly PortMapping[]): Promise<void> {
    for (const mapping of mappings) {
      const held = this.#held.get(keyOf(mapping));
      this.#held.delete(keyOf(mapping));
      await held?.holder?.[Symbol.asyncDispose]();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = [...this.#held.values()];
    this.#held.clear();
    for (const { holder } of all) await holder?.[Symbol.asyncDispose]();
  }

  /** The same port on each of the addresses. */
  async #reserveOne(request: PortRequest, hostIps: readonly string[]): Promise<PortMapping[]> {
    const { containerPort, protocol, hostPort, hostPortEnd = hostPort } = request;
    const isFixed = hostPort !== 0 && hostPortEnd === hostPort;
    let refusal: unknown;
    let tries = 0;
    for (const port of this.#candidates(hostPort, hostPortEnd)) {
      const mappings = hostIps.map((hostIp) => ({ containerPort, protocol, hostIp, hostPort: port }));
      const taken = mappings.find((mapping) => this.#held.has(keyOf(mapping)));
      if (taken !== undefined) {
        if (isFixed) throw fail.network(`Bind for ${taken.hostIp}:${port} failed: port is already allocated`);
        continue;
      }
      try {
        await this.#holdAll(mappings);
        return mappings;
      } catch (cause) {
        refusal = cause;
      }
      if (++tries === MAX_TRIES) break;
    }
    throw refusal ?? fail.network('all ports are allocated');
  }

  /** The ports of the wished range; of the ephemeral one, those not given out for the longest time come first. */
  *#candidates(first: number, last: number): Iterable<number> {
    if (first !== 0) {
      for (let port = first; port <= last; port++) yield port;
      return;
    }
    for (let count = FIRST_EPHEMERAL; count <= LAST_EPHEMERAL; count++) {
      const port = this.#nextEphemeral;
      this.#nextEphemeral = port === LAST_EPHEMERAL ? FIRST_EPHEMERAL : port + 1;
      yield port;
    }
  }

  async #holdAll(mappings: readonly PortMapping[]): Promise<void> {
    const held: PortMapping[] = [];
    try {
      for (const mapping of mappings) {
        await this.#hold(mapping);
        held.push(mapping);
      }
    } catch (cause) {
      await this.release(held);
      throw cause;
    }
  }

  async #hold(mapping: PortMapping): Promise<void> {
    const { protocol, hostIp, hostPort } = mapping;
    const key = keyOf(mapping);
    if (protocol === 'sctp' && this.#isSctpTaken(mapping)) throw inUse(mapping, { code: 'EADDRINUSE' });
    this.#held.set(key, { mapping }); // nobody else may try meanwhile
    try {
      if (protocol === 'tcp') this.#held.set(key, { mapping, holder: await holdTcp(hostIp, hostPort) });
      if (protocol === 'udp') this.#held.set(key, { mapping, holder: await holdUdp(hostIp, hostPort) });
    } catch (cause) {
      this.#held.delete(key);
      throw inUse(mapping, cause);
    }
  }

  /** What bind(2) finds out about the other protocols: any address of a family includes each one of it. */
  #isSctpTaken({ hostIp, hostPort }: PortMapping): boolean {
    const any = isIPv6(hostIp) ? ANY_IPV6 : ANY_IPV4;
    return [...this.#held.values()].some(
      ({ mapping: other }) =>
        other.protocol === 'sctp' &&
        other.hostPort === hostPort &&
        isIPv6(other.hostIp) === isIPv6(hostIp) &&
        (hostIp === any || [hostIp, any].includes(other.hostIp)),
    );
  }
}

/** Where one request is published, as dockerd does without a userland proxy. */
function addressesFor({ hostIp }: PortRequest, { hostIp: byDefault, isIpv6 = false }: PortPlan): string[] {
  const wanted = hostIp === '' ? (byDefault ?? ANY_IPV4) : hostIp;
  const address = formatAddress(parseAddress(wanted));
  if (hostIp === '' && address === ANY_IPV4) return isIpv6 ? [ANY_IPV4, ANY_IPV6] : [ANY_IPV4];
  if (isIPv6(address) && !isIpv6)
    throw fail.network(`host address ${address} cannot be used: the network has no IPv6`, { status: 400 });
  return [address];
}

function inUse({ protocol, hostIp, hostPort }: PortMapping, cause: unknown): Failure {
  const reason = errnoText(cause);
  // there is no userland proxy here, but clients look for this text
  const where = isIPv6(hostIp)
    ? `${protocol}6 [${hostIp}]:${hostPort}`
    : `${protocol}4 ${hostIp}:${hostPort}`;
  const text = `Error starting userland proxy: listen ${where}: bind: ${reason}`;
  return fail.network(text, { cause });
}

async function holdTcp(host: string, port: number): Promise<AsyncDisposable> {
  // who gets here although the firewall should have sent him on is told that nobody serves
  const server = createServer((socket) => socket.resetAndDestroy());
  server.listen({ host, port, backlog: 1, exclusive: true, ipv6Only: true });
  await once(server, 'listening');
  server.on('error', () => {}); // what others send here is of no interest, also if it cannot be read
  server.unref();
  return {
    [Symbol.asyncDispose]: async () => {
      server.close();
      await once(server, 'close');
    },
  };
}

async function holdUdp(address: string, port: number): Promise<AsyncDisposable> {
  const socket = createSocket(isIPv6(address) ? { type: 'udp6', ipv6Only: true } : { type: 'udp4' });
  socket.bind({ address, port, exclusive: true });
  await once(socket, 'listening');
  socket.on('error', () => {});
  socket.unref();
  return {
    [Symbol.asyncDispose]: async () => {
      socket.close();
      await once(socket, 'close');
    },
  };
}

function keyOf({ protocol, hostIp, hostPort }: PortMapping): string {
  return `${protocol}/${hostIp}:${hostPort}`;
}
