import { fail } from '../errors.ts';

/** What a program is built for (OCI image-spec v1.1, image-index.md, platform). */
export interface Platform {
  readonly os: string;
  /** Go's name: `amd64`, `arm64`, `arm`, `386`, `riscv64`. */
  readonly architecture: string;
  /** `v5` … `v8` for ARM; absent elsewhere. */
  readonly variant?: string;
}

/** A map, because names come from strangers: `__proto__` is none of these. */
const aliases = new Map<string, readonly [architecture: string, variant?: string]>([
  ['x86_64', ['amd64']],
  ['x86-64', ['amd64']],
  ['i386', ['386']],
  ['i686', ['386']],
  ['aarch64', ['arm64']],
  ['armhf', ['arm', 'v7']],
  ['armel', ['arm', 'v6']],
]);

/** Parses `os[/arch[/variant]]`, or an architecture alone; what is missing comes from the host. Throws 400. */
export function parsePlatform(text: string, host: Platform): Platform {
  const parts = text.toLowerCase().split('/');
  if (parts.length > 3 || parts.some((part) => !/^[a-z0-9_.-]+$/.test(part)))
    throw fail.invalidPlatform(text);
  const [first = '', second, third] = parts;
  if (second === undefined) {
    const isOs = first === 'linux' || first === 'windows' || first === 'darwin' || first === 'freebsd';
    return isOs ? { ...host, os: first } : normalize({ os: host.os, architecture: first });
  }
  return normalize({ os: first, architecture: second, ...(third !== undefined && { variant: third }) });
}

/** Rewrites other spellings of an architecture, and drops a variant that is the default one. */
export function normalize(platform: Platform): Platform {
  const [architecture, implied] = aliases.get(platform.architecture) ?? [platform.architecture];
  const given = platform.variant ?? implied;
  const isDefault = given === (architecture === 'amd64' ? 'v1' : 'v8');
  const variant = architecture === 'arm' ? variantOfArm(given) : isDefault ? undefined : given;
  return { os: platform.os, architecture, ...(variant !== undefined && variant !== '' && { variant }) };
}

function variantOfArm(variant: string | undefined): string {
  return variant === undefined || variant === '' ? 'v7' : /^\d$/.test(variant) ? `v${variant}` : variant;
}

/** `linux/arm/v7`. */
export function formatPlatform({ os, architecture, variant }: Platform): string {
  return variant === undefined || variant === ''
    ? `${os}/${architecture}`
    : `${os}/${architecture}/${variant}`;
}

/**
 * How well an image serves a wanted platform: 0 is exact, larger is worse, undefined not at all.
 * A newer ARM or AMD64 runs what was built for an older one: v8 → v7 → v6 → v5, v3 → v2 → v1, and arm64 runs 32-bit
 * images last.
 */
export function matchPlatform(wanted: Platform, offered: Platform): number | undefined {
  const want = normalize(wanted);
  const offer = normalize(offered);
  if (want.os !== offer.os) return undefined;
  if (want.architecture === offer.architecture) {
    if (want.architecture !== 'arm' && want.architecture !== 'amd64')
      return (want.variant ?? '') === (offer.variant ?? '') ? 0 : offer.variant === undefined ? 1 : undefined;
    const steps = levelOf(want) - levelOf(offer);
    return steps >= 0 ? steps : undefined;
  }
  if (want.architecture === 'arm64' && offer.architecture === 'arm') return 10 + 8 - levelOf(offer);
  return undefined;
}

function levelOf({ architecture, variant }: Platform): number {
  const level = Number(variant?.replace(/^v/, ''));
  return Number.isInteger(level) ? level : architecture === 'arm' ? 7 : 1;
}
