import { fail } from '../errors.ts';
import type { IpamConfig, NetworkDriver } from './model.ts';
import { defaultPools, type PoolRange, PoolSupply } from './pools.ts';
import {
  type Address,
  contains,
  type Family,
  formatAddress,
  formatSubnet,
  isOverlapping,
  isWithin,
  lastOf,
  parseAddress,
  parseCidr,
  readAddress,
  type Subnet,
  subnetOf,
} from './subnets.ts';

/** What the host itself reaches, and asks for names: a network that is chosen for somebody must not hide it. */
export interface HostSubnets {
  readonly routes: readonly { readonly subnet: Subnet; readonly isDirect: boolean }[];
  /** As resolv.conf has them; what is no address is not in the way. */
  readonly nameServers: readonly string[];
}

/** A network's wish for pools. */
export interface PoolRequest {
  readonly id: string;
  readonly name: string;
  readonly driver: NetworkDriver;
  readonly isIpv6: boolean;
  readonly ipam: readonly IpamConfig[];
}

/** An address that a container may use until it is given back. */
export interface Lease {
  readonly address: string;
  readonly prefixLength: number;
  /** Of its pool; not necessarily the way out. */
  readonly gateway: string;
}

/** Addresses of one subnet. Networks share it if each has a range of its own. */
interface Pool {
  readonly subnet: Subnet;
  readonly taken: Set<bigint>;
  readonly shares: Set<Share>;
}

/** What one network has of a pool. */
interface Share {
  readonly pool: Pool;
  readonly driver: NetworkDriver;
  /** Where addresses come from that nobody asked for. */
  readonly range: Subnet | undefined;
  /** Gateway and auxiliary addresses: they go with the network. */
  readonly reserved: Set<bigint>;
  readonly leased: Set<bigint>;
  /** Every address of the range below this one is taken. */
  lowest: bigint;
  gateway: string;
}

interface Network {
  readonly name: string;
  readonly shares: readonly Share[];
}

/**
 * Who has which subnets and addresses, of all networks of this host; words and order are those of dockerd's default
 * IPAM driver. Keeps nothing anywhere: after a restart the owner settles its networks once more, with what was
 * settled, and adopts the addresses that are in use.
 */
export class Ipam {
  readonly #supply: PoolSupply;
  readonly #readHost: (family: Family) => Promise<HostSubnets>;
  /** By subnet. */
  readonly #pools = new Map<string, Pool>();
  readonly #networks = new Map<string, Network>();

  /** `ranges`: where networks without a subnet lie. */
  constructor(o: {
    ranges?: readonly PoolRange[] | undefined;
    readHost: (family: Family) => Promise<HostSubnets>;
  }) {
    this.#supply = new PoolSupply(o.ranges ?? defaultPools);
    this.#readHost = o.readHost;
  }

  /** Reserves all pools of a network or none; IPv4 before IPv6, with subnet and gateway. Undone by {@link forget}. */
  async settle(request: PoolRequest): Promise<IpamConfig[]> {
    const wishes = wishesOf(request);
    // read before anything is reserved: what follows is done at once
    const inTheWay = new Map<Family, Subnet[][]>();
    for (const { family, config } of wishes)
      if (config.subnet === undefined && !inTheWay.has(family))
        inTheWay.set(family, choicesOf(await this.#readHost(family)));
    const shares: Share[] = [];
    try {
      const settled = wishes.map(({ family, config }) => {
        const share = this.#share(request, family, config, inTheWay.get(family) ?? []);
        shares.push(share);
        return this.#reserve(share, config, request.name);
      });
      this.#networks.set(request.id, { name: request.name, shares });
      return settled;
    } catch (cause) {
      for (const share of shares) this.#giveBack(share);
      throw cause;
    }
  }

  /** True from `settle` to `forget`. */
  has(id: string): boolean {
    return this.#networks.has(id);
  }

  /** Gives back all that a network has. One that has nothing is fine. */
  forget(id: string): void {
    for (const share of this.#networks.get(id)?.shares ?? []) this.#giveBack(share);
    this.#networks.delete(id);
  }

  /** The wanted address, or the lowest that is free. */
  take(id: string, family: Family, wanted?: string): Lease {
    const network = this.#networks.get(id);
    const shares = network?.shares.filter(({ pool }) => pool.subnet.family === family) ?? [];
    if (wanted === undefined) {
      for (const share of shares) {
        const bits = lowestFree(share);
        if (bits !== undefined) return lease(share, { family, bits });
      }
      const where = `${network?.name ?? ''} (${id})`;
      throw fail.network(`no available IPv${family} addresses on this network's address pools: ${where}`);
    }
    const address = parseAddress(wanted, family);
    const share = shares.find(({ pool }) => contains(pool.subnet, address));
    if (share === undefined)
      throw fail.network(`invalid address ${wanted}: It does not belong to any of this network's subnets`, {
        status: 400,
      });
    if (share.pool.taken.has(address.bits)) throw inUse();
    return lease(share, address);
  }

  /** Takes an address over that a live container has. False if somebody else has it, or it is none of the network's. */
  adopt(id: string, text: string): boolean {
    const address = readAddress(text);
    if (address === undefined) return false;
    const share = this.#networks.get(id)?.shares.find(({ pool }) => contains(pool.subnet, address));
    if (share === undefined || share.pool.taken.has(address.bits)) return false;
    lease(share, address);
    return true;
  }

  /** Gives an address back; one that nobody has stays so, and a gateway stays the network's. */
  release(id: string, text: string): void {
    const address = readAddress(text);
    for (const { pool, leased } of this.#networks.get(id)?.shares ?? [])
      if (pool.subnet.family === address?.family && leased.delete(address.bits)) free(pool, address.bits);
  }

  /** A part of a new pool, or of one that others have parts of. */
  #share(
    { driver }: PoolRequest,
    family: Family,
    config: IpamConfig,
    choices: readonly (readonly Subnet[])[],
  ): Share {
    const { subnet, range } = this.#place(family, config, choices);
    const key = formatSubnet(subnet);
    const present = this.#pools.get(key);
    const others = [...this.#pools.values()].filter((each) => each !== present);
    const canShare = [...(present?.shares ?? [])].every(
      (other) =>
        range !== undefined &&
        other.range !== undefined &&
        !isSame(other.range, range) &&
        !(other.driver === 'bridge' && driver === 'bridge'),
    );
    if (!canShare || others.some((other) => isOverlapping(other.subnet, subnet)))
      throw fail.network('Pool overlaps with other one on this address space', { status: 403 });
    const pool = present ?? { subnet, taken: endsOf(subnet), shares: new Set() };
    const share: Share = {
      ...{ pool, driver, range, gateway: '', lowest: (range ?? subnet).base },
      ...{ reserved: new Set(), leased: new Set() },
    };
    pool.shares.add(share);
    this.#pools.set(key, pool);
    return share;
  }

  #place(
    family: Family,
    config: IpamConfig,
    choices: readonly (readonly Subnet[])[],
  ): { subnet: Subnet; range: Subnet | undefined } {
    if (config.subnet !== undefined) return readPool(config);
    if (config.ipRange !== undefined) throw badRequest(config, 'invalid address subpool');
    const pools = [...this.#pools.values()].map(({ subnet }) => subnet);
    const subnet = this.#supply.take(
      family,
      choices.map((host) => [...pools, ...host]),
    );
    if (subnet !== undefined) return { subnet, range: undefined };
    const what = `an available, non-overlapping IPv${family} address pool among the defaults`;
    throw fail.network(`could not find ${what} to assign to the network`, { status: 404 });
  }

  /** Sets aside what is not for containers, and says what has been settled. */
  #reserve(share: Share, config: IpamConfig, name: string): IpamConfig {
    const { subnet } = share.pool;
    share.gateway = reserveGateway(share, config.gateway);
    for (const [key, text] of Object.entries(config.auxAddresses ?? {})) {
      const address = readAddress(text);
      if (address === undefined)
        throw fail.network(`non parsable secondary ip address (${key}:${text}) passed for network ${name}`, {
          status: 400,
        });
      if (!contains(subnet, address))
        throw fail.network(
          `auxiliary address: (${key}:${text}) must belong to the master pool: ${formatSubnet(subnet)}`,
          { status: 403 },
        );
      if (share.pool.taken.has(address.bits))
        throw fail.network(`failed to allocate secondary ip address (${key}:${text}): ${inUse().message}`);
      setAside(share, address.bits);
    }
    return { ...config, subnet: formatSubnet(subnet), gateway: share.gateway };
  }

  #giveBack(share: Share): void {
    const { pool, reserved, leased } = share;
    pool.shares.delete(share);
    for (const bits of [...reserved, ...leased]) free(pool, bits);
    if (pool.shares.size === 0) this.#pools.delete(formatSubnet(pool.subnet));
  }
}

/** In dockerd's order, and at least one of each family that the network has. */
function wishesOf({ ipam, isIpv6 }: PoolRequest): { family: Family; config: IpamConfig }[] {
  for (const { gateway } of ipam)
    if (gateway !== undefined && readAddress(gateway) === undefined)
      throw fail.network(`invalid gateway address ${gateway} in Ipam configuration`, { status: 400 });
  return ([4, 6] as const)
    .filter((family) => family === 4 || isIpv6)
    .flatMap((family) => {
      const wishes = ipam
        .filter(({ subnet = '' }) => (parseCidr(subnet)?.subnet.family ?? 4) === family)
        .map((config) => ({ family, config }));
      return wishes.length > 0 ? wishes : [{ family, config: {} }];
    });
}

/**
 * Best is what hides nothing at all. A host whose default route is a tunnel's may have none such left; then what is
 * behind a router may be hidden, as with dockerd, but not what is next to the host.
 */
function choicesOf({ routes, nameServers }: HostSubnets): Subnet[][] {
  const servers = nameServers
    .flatMap((text) => readAddress(text) ?? [])
    .map((address) => subnetOf(address, address.family === 4 ? 32 : 128));
  const direct = routes.filter(({ isDirect }) => isDirect);
  return [routes, direct].map((list) => [...list.map(({ subnet }) => subnet), ...servers]);
}

function readPool(config: IpamConfig): { subnet: Subnet; range: Subnet | undefined } {
  const subnet = parseCidr(config.subnet ?? '')?.subnet;
  if (subnet === undefined) throw badRequest(config, 'invalid address pool');
  if (config.ipRange === undefined) return { subnet, range: undefined };
  const range = parseCidr(config.ipRange)?.subnet;
  if (range === undefined) throw badRequest(config, 'invalid address subpool');
  if (range.family !== subnet.family)
    throw fail.network('pool and subpool are of incompatible address families');
  if (!isOverlapping(range, subnet)) throw badRequest(config, 'invalid address subpool');
  // dockerd takes a range that is larger than its pool for the pool
  return { subnet, range: isWithin(range, subnet) ? range : subnet };
}

function badRequest({ subnet = '', ipRange = '' }: IpamConfig, why: string) {
  const what = `address space "LocalDefault" pool "${subnet}" subpool "${ipRange}"`;
  return fail.network(`failed to parse pool request for ${what}: ${why}`);
}

/** A network's and broadcast address; those of a subnet of one or two addresses are as good as any (RFC 3021). */
function endsOf(subnet: Subnet): Set<bigint> {
  if (subnet.family === 6) return new Set([subnet.base]); // subnet-router anycast, RFC 4291, 2.6.1
  return new Set(subnet.prefixLength > 30 ? [] : [subnet.base, lastOf(subnet).bits]);
}

/** Either the wanted one, or the first that is free of those for containers, as with dockerd. */
function reserveGateway(share: Share, wanted: string | undefined): string {
  const { subnet, taken } = share.pool;
  const refuse = (why: string) => fail.network(`failed to allocate gateway (${wanted ?? ''}): ${why}`);
  const bits = wanted === undefined ? lowestFree(share) : parseAddress(wanted).bits;
  if (bits === undefined) throw refuse('no available addresses on this pool');
  const address = wanted === undefined ? { family: subnet.family, bits } : parseAddress(wanted);
  if (!contains(subnet, address)) throw refuse('requested address is out of range');
  if (taken.has(bits)) throw refuse(inUse().message);
  setAside(share, bits);
  return formatAddress(address);
}

function setAside({ pool, reserved }: Share, bits: bigint): void {
  pool.taken.add(bits);
  reserved.add(bits);
}

function lease({ pool, leased, gateway }: Share, address: Address): Lease {
  pool.taken.add(address.bits);
  leased.add(address.bits);
  return { address: formatAddress(address), prefixLength: pool.subnet.prefixLength, gateway };
}

/** Steps over taken addresses only, and over each once: however large the subnet is. */
function lowestFree(share: Share): bigint | undefined {
  const { pool, range = pool.subnet } = share;
  const last = lastOf(range).bits;
  while (share.lowest <= last && pool.taken.has(share.lowest)) share.lowest++;
  return share.lowest <= last ? share.lowest : undefined;
}

function free({ subnet, taken, shares }: Pool, bits: bigint): void {
  taken.delete(bits);
  for (const share of shares)
    if (contains(share.range ?? subnet, { family: subnet.family, bits }) && bits < share.lowest)
      share.lowest = bits;
}

function isSame(one: Subnet, other: Subnet): boolean {
  return isWithin(one, other) && isWithin(other, one);
}

function inUse() {
  return fail.network('Address already in use', { status: 403 });
}
