import { closeSync, openSync } from 'node:fs';
import { messageOf } from '../errors.ts';
import type { Log } from '../lib/log.ts';
import { DnsAnswers } from './dns-answers.ts';
import { leadTo, openDoor } from './dns-door.ts';
import { DnsServer } from './dns-server.ts';
import { Upstream, type UpstreamServer } from './dns-upstream.ts';
import { type Membership, Names } from './names.ts';
import { hostResolvConf, NAME_SERVER, nameServers } from './resolver.ts';
import { addressBytes, readAddress } from './subnets.ts';

/** The host's resolv.conf is looked at again when it was read longer ago than this and somebody asks. */
const REREAD_MS = 1000;

/** A running container that is to have a name server. */
export interface ServeRequest {
  containerId: string;
  /** A process in its network namespace. */
  pid: number;
  /** Its own name servers, asked from within its network; empty: the host's, asked from the host. */
  dns: readonly string[];
  /** Its resolv.conf sets `ndots` by somebody's wish. */
  isNdotsSet: boolean;
}

interface Served {
  server: DnsServer;
  /** Keeps hold of its network namespace, where servers of its own are asked from. */
  namespaceFd: number | undefined;
}

/**
 * The name servers of all containers on networks with names: who is called what, and a pair of sockets in each
 * container's network namespace. Keeps nothing: after a restart, all join and are served once more.
 */
export class NameService implements AsyncDisposable {
  readonly #names = new Names();
  readonly #upstream: Upstream;
  readonly #log: Log;
  /** Also those that are being set up. */
  readonly #served = new Map<string, Promise<Served | undefined>>();
  readonly #readHost: () => Promise<string>;
  #host: { readAt: number; servers: Promise<UpstreamServer[]> } | undefined;

  /** `readHost`: the host's resolv.conf. */
  constructor({ log, readHost = hostResolvConf }: { log: Log; readHost?: () => Promise<string> }) {
    this.#log = log;
    this.#upstream = new Upstream({ log });
    this.#readHost = readHost;
  }

  /** Takes the place of what the container was called on that network before. */
  join(place: Membership): void {
    this.#names.join(place);
  }

  /** One that is not there is fine. */
  leave(networkId: string, containerId: string): void {
    this.#names.leave(networkId, containerId);
  }

  /** Gives the container a name server, unless it has one. It stays until `stop`, also when the networks go. */
  async serve(request: ServeRequest): Promise<void> {
    const { containerId } = request;
    const before = this.#served.get(containerId);
    if (before !== undefined) return void (await before);
    const opening = this.#open(request);
    const kept = opening.catch(() => undefined);
    this.#served.set(containerId, kept);
    try {
      await opening;
    } catch (cause) {
      if (this.#served.get(containerId) === kept) this.#served.delete(containerId);
      throw cause;
    }
  }

  /** One that has no name server is fine. */
  async stop(containerId: string): Promise<void> {
    const served = this.#served.get(containerId);
    this.#served.delete(containerId);
    await close(await served);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#served.keys()].map((containerId) => this.stop(containerId)));
  }

  async #open(request: ServeRequest): Promise<Served> {
    const { containerId, pid, isNdotsSet } = request;
    const dns = request.dns.filter((server) => server !== NAME_SERVER);
    const path = `/proc/${pid}/ns/net`;
    const namespaceFd = dns.length > 0 ? openSync(path, 'r') : undefined;
    let server: DnsServer | undefined;
    try {
      const own = namespaceFd === undefined ? [] : serversOf(dns, `/proc/self/fd/${namespaceFd}`);
      const answers = new DnsAnswers({
        containerId,
        names: this.#names,
        isNdotsSet,
        askOthers: async (o) => {
          const servers = own.length > 0 ? own : await this.#hostServersFor(containerId);
          return servers.length === 0 ? undefined : this.#upstream.ask(servers, o);
        },
      });
      const door = openDoor(path, containerId);
      server = await DnsServer.open(door, {
        answer: (raw, protocol) => answers.answer(raw, protocol),
        log: this.#log,
      });
      await leadTo(path, door.port);
      return { server, namespaceFd };
    } catch (cause) {
      await server?.[Symbol.asyncDispose]();
      if (namespaceFd !== undefined) closeSync(namespaceFd);
      throw cause;
    }
  }

  /** Who is on internal networks only must not reach others by asking through the host. */
  async #hostServersFor(containerId: string): Promise<UpstreamServer[]> {
    if (this.#names.placesOf(containerId).every(({ isInternal }) => isInternal)) return [];
    const now = performance.now();
    if (this.#host === undefined || now - this.#host.readAt > REREAD_MS) {
      const servers = this.#readHost().then(
        (text) => serversOf(nameServers(text)),
        (err: unknown) => {
          this.#log.warn({ reason: messageOf(err) }, 'cannot read the host’s name servers');
          return [];
        },
      );
      this.#host = { readAt: now, servers };
    }
    return this.#host.servers;
  }
}

async function close(served: Served | undefined): Promise<void> {
  if (served === undefined) return;
  await served.server[Symbol.asyncDispose]();
  if (served.namespaceFd !== undefined) closeSync(served.namespaceFd);
}

/** What is no address is left out. */
function serversOf(texts: readonly string[], namespacePath?: string): UpstreamServer[] {
  return texts.flatMap((text) => {
    const [ip = '', zone = ''] = text.split('%');
    const address = readAddress(ip);
    if (address === undefined) return [];
    return [{ ip: addressBytes(address), zone, ...(namespacePath !== undefined && { namespacePath }) }];
  });
}
