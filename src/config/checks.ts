import { isIP } from 'node:net';
import * as z from 'zod/mini';
import { messageOf } from '../errors.ts';
import { parseProxy } from '../lib/proxy-address.ts';
import { parseSize } from './sizes.ts';

/** A text; `what` stands in the message where it is none. */
export const text = (what: string) => z.string({ error: `must be ${what}, as a text` });
/** A list of texts, each with these checks. */
export const texts = (what: string, ...checks: z.core.CheckFn<string>[]) =>
  z.array(text(what).check(...checks), { error: `must be a list of ${what}` });
/** On or off. */
export const toggle = z.boolean({ error: 'must be true or false' });
/** A whole number within bounds. */
export const whole = (from: number, to: number) => {
  const error = `must be a whole number from ${from} to ${to}`;
  return z.int({ error }).check(z.minimum(from, { error }), z.maximum(to, { error }));
};
/** One of these texts. */
export const choice = <const T extends readonly [string, ...string[]]>(...values: T) =>
  z.enum(values, { error: `must be one of ${values.join(', ')}` });

/** A check on a text that says what is wrong with it, or nothing. */
const says =
  (complain: (value: string) => string | undefined): z.core.CheckFn<string> =>
  (payload) => {
    const message = complain(payload.value);
    if (message !== undefined) payload.issues.push({ code: 'custom', message, input: payload.value });
  };

/** For {@link text}: what a path, an address or a name has to look like. */
export const absolute = says((path) => (path.startsWith('/') ? undefined : 'must be an absolute path'));
export const address = says((value) => (isIP(value) > 0 ? undefined : 'must be an IP address'));
export const ipv4Network = says((value) =>
  isNetwork(value, 4) ? undefined : 'must be an IPv4 address and prefix length, such as 172.17.0.1/16',
);
export const ipv6Network = says((value) =>
  isNetwork(value, 6) ? undefined : 'must be an IPv6 address and prefix length, such as fd00:1::/64',
);
export const ipv4Address = says((value) => (isIP(value) === 4 ? undefined : 'must be an IPv4 address'));
export const ipv6Address = says((value) =>
  isIP(value) === 6 && !value.includes('%') ? undefined : 'must be an IPv6 address',
);
export const interfaceName = says((value) =>
  /^[a-zA-Z0-9_.-]{1,15}$/.test(value) && value !== 'none'
    ? undefined
    : 'must be the name of a network interface: up to 15 letters, digits, "_", "." and "-"',
);
export const cgroupPath = says((value) =>
  value.split('/').includes('..') ? 'must be a path without ".."' : undefined,
);
export const label = says((value) => (/^[^=]+=/.test(value) ? undefined : 'must have the form KEY=VALUE'));

/** A size that is not less than this one. */
export const sizeFrom = (least: string) =>
  says((value) =>
    (parseSize(value) ?? -1) >= (parseSize(least) ?? 0)
      ? undefined
      : `must be a size of at least ${least}, such as 10m`,
  );

/** Where the API can be served. */
export const host = says((value) => {
  if (value.startsWith('tcp://')) return 'tcp:// is not offered without mutual TLS: use unix:// or fd://';
  if (value === 'fd://' || value === 'fd://*' || value === 'unix://') return undefined;
  if (!/^unix:\/\/\/./.test(value)) return 'must be unix:///absolute/path or fd://';
  // sun_path holds 108 bytes, the closing zero included
  return Buffer.byteLength(value.slice(7)) > 107 ? 'must be a path of at most 107 bytes' : undefined;
});

/** A registry as `insecure-registries` names it. */
export const registryHost = says((value) => {
  if (value.includes('://')) return 'must be a host or a network, without a scheme';
  if (isNetwork(value)) return undefined;
  return /^([a-zA-Z0-9._-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?$/.test(value)
    ? undefined
    : 'must be HOST, HOST:PORT or ADDRESS/PREFIX';
});

/** A registry mirror: scheme and host alone. */
export const mirror = says((value) => {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) return 'must be an http:// or https:// URL';
  if (url.username !== '' || url.password !== '') return 'must not carry a user name or password';
  return url.pathname !== '/' || url.search !== '' || url.hash !== ''
    ? 'must not have a path, query or fragment'
    : undefined;
});

/** A proxy's address; nothing at all for no proxy. */
export const proxy = says((value) => {
  try {
    if (value !== '') parseProxy(value);
    return undefined;
  } catch (cause) {
    return `must be an http:// or https:// URL: ${messageOf(cause)}`;
  }
});

/** An entry of `runtimes`. */
export const runtime = z.strictObject(
  {
    path: text('the path of an OCI runtime').check(z.minLength(1)),
    runtimeArgs: z.optional(texts('arguments')),
  },
  { error: 'must be an object with "path" and optionally "runtimeArgs"' },
);

/** `log-opts`; which of them a driver has is checked with the driver. */
export const logOptions = z.record(z.string(), text('an option of the log driver'), {
  error: 'must be an object of texts',
});

/** `default-address-pools`. */
export const addressPools = z.array(
  z
    .strictObject(
      {
        base: text('a network').check(
          says((value) => (isNetwork(value) ? undefined : 'must be a network, such as 10.8.0.0/16')),
        ),
        size: whole(1, 128),
      },
      { error: 'must be an object with "base" and "size"' },
    )
    .check((payload) => {
      const { base, size } = payload.value;
      const least = Number(base.slice(base.indexOf('/') + 1));
      const most = isIP(base.slice(0, base.indexOf('/'))) === 4 ? 32 : 128;
      if (size >= least && size <= most) return;
      const message = `must be from ${least} to ${most}`;
      payload.issues.push({ code: 'custom', message, path: ['size'], input: payload.value });
    }),
  { error: 'must be a list of address pools' },
);

/** `default-network-opts`; whether a driver has the option is for the driver to say. */
export const networkOptions = z.record(
  z.string(),
  z.record(z.string(), text('an option of the driver'), { error: 'must be an object of texts' }),
  { error: 'must be an object of drivers' },
);

// go-units, ulimit.go
const ulimitNames =
  'core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack'.split(
    ' ',
  );

/** `default-ulimits`: by name, each with its own name once more or without it, as dockerd's files have it. */
export const ulimits = z
  .record(
    z.string(),
    z.strictObject(
      { Name: z.optional(text('a name')), Soft: whole(-1, 2 ** 53 - 1), Hard: whole(-1, 2 ** 53 - 1) },
      { error: 'must be an object with "Soft" and "Hard"' },
    ),
    { error: 'must be an object of limits' },
  )
  .check((payload) => {
    for (const [name, { Soft, Hard }] of Object.entries(payload.value)) {
      const say = (message: string) =>
        payload.issues.push({ code: 'custom', message, path: [name], input: payload.value });
      if (!ulimitNames.includes(name)) say(`invalid ulimit type: ${name}`);
      if (Hard !== -1 && (Soft === -1 || Soft > Hard))
        say(`ulimit soft limit must be less than or equal to hard limit: ${Soft} > ${Hard}`);
    }
  });

/** True for `10.0.0.0/8`, or `fd00::/8` where IPv6 will do. */
function isNetwork(value: string, family?: 4 | 6): boolean {
  const [base = '', prefix = '', more] = value.split('/');
  const version = isIP(base);
  if (version === 0 || base.includes('%') || more !== undefined || !/^\d{1,3}$/.test(prefix)) return false;
  return Number(prefix) <= (version === 4 ? 32 : 128) && (family === undefined || family === version);
}
