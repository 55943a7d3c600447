import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, isIPv4 } from 'node:net';
import { codeOf, type Failure, fail, messageOf } from '../errors.ts';

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

/** A port of the host that leads to a container's. */
export interface PortMapping {
  containerPort: number;
  protocol: Protocol;
  /** `0.0.0.0`: any address of the host. */
  hostIp: string;
  hostPort: number;
}

const FIRST_EPHEMERAL = 49153;
const LAST_EPHEMERAL = 65535;

/** How many ports of a range are tried that turn out to be in use by other processes. */
const MAX_TRIES = 100;

/** Go's words for what bind(2) and listen(2) say. */
const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: 'address already in use',
  EADDRNOTAVAIL: 'cannot assign requested address',
  EACCES: 'permission denied',
};

/**
 * The host's ports that lead into containers. Each is held by a socket of this process that never serves anyone: the
 * firewall sends packets elsewhere before they get here. So a port that another process uses is refused, and no other
 * process can take one of ours as long as the daemon runs. SCTP, which Node cannot speak, is only checked among ours.
 */
export class HostPorts implements AsyncDisposable {
  readonly #held = new Map<string, AsyncDisposable | undefined>();
  #nextEphemeral = FIRST_EPHEMERAL;

  /** Ports for all of the requests, or none; failures are in dockerd's words. */
  async reserve(requests: readonly PortRequest[]): Promise<PortMapping[]> {
    const mappings: PortMapping[] = [];
    try {
      for (const request of requests) mappings.push(await this.#reserveOne(request));
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
        this.#held.set(keyOf(mapping), undefined);
      }
    }
    return lost;
  }

  /** Ports that are not held are fine. */
  async release(mappings: readonly PortMapping[]): Promise<void> {
    for (const mapping of mappings) {
      const holder = this.#held.get(keyOf(mapping));
      this.#held.delete(keyOf(mapping));
      await holder?.[Symbol.asyncDispose]();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const holders = [...this.#held.values()];
    this.#held.clear();
    for (const holder of holders) await holder?.[Symbol.asyncDispose]();
  }

  async #reserveOne({ hostPort, hostPortEnd, ...rest }: PortRequest): Promise<PortMapping> {
    const { containerPort, protocol } = rest;
    const hostIp = rest.hostIp === '' ? '0.0.0.0' : rest.hostIp;
    if (!isIPv4(hostIp))
      throw fail.network(`host address ${hostIp} cannot be used: the network has no IPv6`, { status: 400 });
    const isFixed = hostPort !== 0 && (hostPortEnd ?? hostPort) === hostPort;
    let refusal: unknown;
    let tries = 0;
    for (const port of this.#candidates(hostPort, hostPortEnd ?? hostPort)) {
      const mapping = { containerPort, protocol, hostIp, hostPort: port };
      if (this.#held.has(keyOf(mapping))) {
        if (isFixed) throw fail.network(`Bind for ${hostIp}:${port} failed: port is already allocated`);
        continue;
      }
      try {
        await this.#hold(mapping);
        return mapping;
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

  async #hold(mapping: PortMapping): Promise<void> {
    const { protocol, hostIp, hostPort } = mapping;
    const key = keyOf(mapping);
    this.#held.set(key, undefined); // nobody else may try meanwhile
    try {
      if (protocol === 'tcp') this.#held.set(key, await holdTcp(hostIp, hostPort));
      if (protocol === 'udp') this.#held.set(key, await holdUdp(hostIp, hostPort));
    } catch (cause) {
      this.#held.delete(key);
      throw inUse(mapping, cause);
    }
  }
}

function inUse({ protocol, hostIp, hostPort }: PortMapping, cause: unknown): Failure {
  const reason = reasons[codeOf(cause) ?? ''] ?? messageOf(cause);
  // there is no userland proxy here, but clients look for this text
  const text = `Error starting userland proxy: listen ${protocol}4 ${hostIp}:${hostPort}: bind: ${reason}`;
  return fail.network(text, { cause });
}

async function holdTcp(host: string, port: number): Promise<AsyncDisposable> {
  // who gets here although the firewall should have sent him on is told that nobody serves
  const server = createServer((socket) => socket.resetAndDestroy());
  server.listen({ host, port, backlog: 1, exclusive: true });
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
  const socket = createSocket({ type: 'udp4' });
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
