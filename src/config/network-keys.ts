import * as z from 'zod/mini';
import { fail } from '../errors.ts';
import {
  address,
  addressPools,
  interfaceName,
  ipv4Address,
  ipv4Network,
  ipv6Address,
  ipv6Network,
  networkOptions,
  text,
  texts,
  toggle,
  whole,
} from './checks.ts';
import { keyFacts } from './key-facts.ts';

/** `base=10.8.0.0/16,size=24`; what is no number is for the check to refuse. */
function poolOf(given: string): object {
  const fields = given.split(',').map((field) => {
    const equals = field.indexOf('=');
    if (equals < 0)
      throw fail.config(`--default-address-pool: invalid field '${field}' must be a key=value pair`);
    return [field.slice(0, equals).toLowerCase(), field.slice(equals + 1)];
  });
  const { size, ...rest } = Object.fromEntries(fields);
  return { ...rest, ...(size !== undefined && { size: Number(size || 'NaN') }) };
}

function optionsByDriver(given: readonly string[]): Record<string, Record<string, string>> {
  const byDriver: Record<string, Record<string, string>> = {};
  for (const text of given) {
    const [, driver, option, value] = /^([^=]*)=([^=]*)=(.*)$/s.exec(text) ?? [];
    if (driver === undefined || option === undefined || value === undefined)
      throw fail.config(
        `--default-network-opt: invalid value ${JSON.stringify(text)} for map option, should be root-key=key=value`,
      );
    byDriver[driver] = { ...byDriver[driver], [option]: value };
  }
  return byDriver;
}

/** The default bridge, the pools of all networks, and how containers find names. */
export const networkKeys = {
  bridge: z._default(text('a name').check(interfaceName), 'skerry0').register(keyFacts, {
    flag: 'bridge',
    short: 'b',
    takes: 'value',
    argument: 'NAME',
    about: 'Interface of the default bridge network',
  }),
  bip: z.optional(text('a network').check(ipv4Network)).register(keyFacts, {
    flag: 'bip',
    takes: 'value',
    argument: 'ADDRESS/PREFIX',
    fallback: 'the first private network that is free',
    about: "The bridge's own address and its network",
  }),
  'fixed-cidr': z.optional(text('a network').check(ipv4Network)).register(keyFacts, {
    flag: 'fixed-cidr',
    takes: 'value',
    argument: 'ADDRESS/PREFIX',
    fallback: "the bridge's whole network",
    about: "Part of the bridge's network that containers get addresses from",
  }),
  'fixed-cidr-v6': z.optional(text('a network').check(ipv6Network)).register(keyFacts, {
    flag: 'fixed-cidr-v6',
    takes: 'value',
    argument: 'ADDRESS/PREFIX',
    fallback: 'the whole network of bip6',
    about: 'IPv6 network of the default bridge; with bip6, the part of it that containers get addresses from',
  }),
  ipv6: z._default(toggle, false).register(keyFacts, {
    flag: 'ipv6',
    takes: 'switch',
    about: 'Containers on the default bridge have IPv6 as well; needs fixed-cidr-v6, bip6 or an IPv6 pool',
  }),
  bip6: z.optional(text('a network').check(ipv6Network)).register(keyFacts, {
    flag: 'bip6',
    takes: 'value',
    argument: 'ADDRESS/PREFIX',
    fallback: 'the first address of fixed-cidr-v6',
    about: "The bridge's own IPv6 address and its network",
  }),
  'default-gateway': z.optional(text('an address').check(ipv4Address)).register(keyFacts, {
    flag: 'default-gateway',
    takes: 'value',
    argument: 'ADDRESS',
    fallback: "the bridge's own address",
    about: 'Router of containers on the default bridge; an address of its network',
  }),
  'default-gateway-v6': z.optional(text('an address').check(ipv6Address)).register(keyFacts, {
    flag: 'default-gateway-v6',
    takes: 'value',
    argument: 'ADDRESS',
    fallback: "the bridge's own IPv6 address",
    about: 'IPv6 router of containers on the default bridge; an address of its network',
  }),
  'default-address-pools': z._default(addressPools, []).register(keyFacts, {
    flag: 'default-address-pool',
    takes: 'values',
    argument: 'base=NETWORK,size=BITS',
    fromTexts: (texts) => texts.map(poolOf),
    fallback: '172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in networks of 20 bits',
    about:
      'Where networks lie that name no subnet: a network of either family, cut into subnets of so many bits; in the file {"base": "10.8.0.0/16", "size": 24}',
  }),
  'default-network-opts': z._default(networkOptions, {}).register(keyFacts, {
    flag: 'default-network-opt',
    takes: 'values',
    argument: 'DRIVER=OPTION=VALUE',
    fromTexts: optionsByDriver,
    about:
      'Options that networks of a driver get when they are made, unless they have them; in the file {"bridge": {"com.docker.network.driver.mtu": "1400"}}',
  }),
  mtu: z._default(whole(68, 65535), 1500).register(keyFacts, {
    flag: 'mtu',
    takes: 'value',
    argument: 'BYTES',
    unit: 'bytes',
    about: "Largest packet on containers' interfaces",
  }),
  icc: z._default(toggle, true).register(keyFacts, {
    flag: 'icc',
    takes: 'switch',
    about: 'Containers on the default bridge may talk to each other',
  }),
  'ip-masq': z._default(toggle, true).register(keyFacts, {
    flag: 'ip-masq',
    takes: 'switch',
    about: "Containers reach other hosts under this host's address",
  }),
  'ip-forward': z._default(toggle, true).register(keyFacts, {
    flag: 'ip-forward',
    takes: 'switch',
    about: 'Turn net.ipv4.ip_forward on',
  }),
  'host-gateway-ip': z.optional(text('an address').check(address)).register(keyFacts, {
    flag: 'host-gateway-ip',
    takes: 'value',
    argument: 'ADDRESS',
    fallback: "the bridge's own address",
    about: 'What host-gateway stands for in --add-host',
  }),
  dns: z._default(texts('addresses', address), []).register(keyFacts, {
    flag: 'dns',
    takes: 'values',
    argument: 'ADDRESS',
    fallback: "the host's",
    about: 'Name server for containers',
  }),
  'dns-search': z._default(texts('domains'), []).register(keyFacts, {
    flag: 'dns-search',
    takes: 'values',
    argument: 'DOMAIN',
    fallback: "the host's",
    about: 'Search domain for containers',
  }),
  'dns-opts': z._default(texts('options'), []).register(keyFacts, {
    flag: 'dns-opt',
    takes: 'values',
    argument: 'OPTION',
    fallback: "the host's",
    about: 'Resolver option for containers, such as ndots:1',
  }),
} as const;
