import { randomBytes } from 'node:crypto';
import { codeOf, fail } from '../errors.ts';
import { Netlink } from '../host/netlink.ts';
import type { Log } from '../lib/log.ts';
import { isBridgeFiltered } from './bridge-setup.ts';
import { upInterface } from './inside.ts';
import { addVeth, plugIn, portsOf, removeLink, setPort, unplug } from './links.ts';
import type { Endpoint } from './model.ts';
import type { Family } from './subnets.ts';

/** What the host's ends of our cables are called; anything else in the bridge belongs to somebody else. */
const cableName = /^veth[0-9a-f]{7}$/;

const MAX_NAME_TRIES = 4;

/** A container's end of a cable. */
export interface Plug extends Endpoint {
  /** A process in the container's network namespace. */
  pid: number;
  /** The default routes lead here. */
  isWayOut: boolean;
}

/** The cables (pairs of veth) between one bridge and its containers, known by the name of the host's end. */
export class Cables implements AsyncDisposable {
  readonly #bridge: number;
  readonly #mtu: number;
  readonly #isIcc: boolean;
  readonly #log: Log;
  readonly #netlink: Netlink;
  /** A socket of their own: others need not wait for a removal. */
  readonly #removals: Netlink;
  readonly #underRemoval = new Set<Promise<void>>();

  private constructor(
    o: { bridge: number; mtu: number; isIcc: boolean; log: Log },
    netlink: Netlink,
    removals: Netlink,
  ) {
    this.#bridge = o.bridge;
    this.#mtu = o.mtu;
    this.#isIcc = o.isIcc;
    this.#log = o.log;
    this.#netlink = netlink;
    this.#removals = removals;
  }

  /** For the bridge with that index. */
  static open(o: { bridge: number; mtu: number; isIcc: boolean; log: Log }): Cables {
    return new Cables(o, Netlink.open('route'), Netlink.open('route'));
  }

  /** Lays a cable into a container and brings up its end; the name of the host's end, or nothing is left. */
  async plug({ pid, isWayOut, interfaceName: name, macAddress, ...endpoint }: Plug): Promise<string> {
    const cable = await this.#lay({ name, macAddress, pid });
    try {
      await this.#setPort(cable);
      const addresses = [{ address: endpoint.ipAddress, prefixLength: endpoint.prefixLength }];
      const routes: { family: Family; gateway: string }[] = [{ family: 4, gateway: endpoint.gateway }];
      const isIpv6 = endpoint.ipv6Address !== '';
      if (isIpv6) {
        addresses.push({ address: endpoint.ipv6Address, prefixLength: endpoint.ipv6PrefixLength });
        routes.push({ family: 6, gateway: endpoint.ipv6Gateway });
      }
      await upInterface(pid, { name, addresses, isIpv6, routes: isWayOut ? routes : [] });
      return cable;
    } catch (cause) {
      await this.unplug(cable);
      throw cause;
    }
  }

  async #lay(inside: { name: string; macAddress: string; pid: number }): Promise<string> {
    for (let triesLeft = MAX_NAME_TRIES; ; triesLeft--) {
      const cable = `veth${randomBytes(4).toString('hex').slice(1)}`;
      try {
        await addVeth(this.#netlink, { name: cable, mtu: this.#mtu, bridge: this.#bridge, inside });
        return cable;
      } catch (cause) {
        if (codeOf(cause) !== 'EEXIST') throw cause;
        if (triesLeft === 1)
          throw fail.network(`interface ${inside.name} exists in the container`, { cause });
      }
    }
  }

  /**
   * Where the packet filter sees bridged frames, it also keeps containers apart, and answers to one that reaches
   * itself by a published port leave by the port they came from. Elsewhere the bridge keeps its ports apart.
   */
  async #setPort(cable: string): Promise<void> {
    const isHairpin = isBridgeFiltered();
    const isIsolated = !this.#isIcc && !isHairpin;
    if (isHairpin || isIsolated) await setPort(this.#netlink, cable, { isHairpin, isIsolated });
  }

  /** Cuts a cable at once, and removes it in the background. One that is gone is fine. */
  async unplug(cable: string): Promise<void> {
    await unplug(this.#netlink, cable);
    const removal = removeLink(this.#removals, cable)
      .catch((err) => this.#log.error({ interface: cable, err }, 'could not remove an interface'))
      .finally(() => this.#underRemoval.delete(removal));
    this.#underRemoval.add(removal);
  }

  /** Plugs cables of live containers in again if they are out, and removes those in the bridge that nobody has. */
  async mend(live: ReadonlySet<string>): Promise<void> {
    const plugged = new Set((await portsOf(this.#netlink, this.#bridge)).map(({ name }) => name));
    for (const cable of plugged)
      if (cableName.test(cable) && !live.has(cable)) {
        this.#log.info({ interface: cable }, 'removing an interface that no container has');
        await this.unplug(cable);
      }
    for (const cable of live) {
      try {
        if (!plugged.has(cable)) await plugIn(this.#netlink, cable, this.#bridge);
        await this.#setPort(cable);
      } catch (err) {
        this.#log.warn({ interface: cable, err }, 'the interface of a live container cannot be used');
      }
    }
  }

  /** Waits for the removals under way, then lets go of the kernel. The cables stay. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#underRemoval);
    await this.#removals[Symbol.asyncDispose]();
    await this.#netlink[Symbol.asyncDispose]();
  }
}
