import * as z from 'zod/mini';
import { fail } from '../errors.ts';
import { type Digest, isDigest } from '../lib/digest.ts';
import { familiarString } from '../lib/reference.ts';
import type { Asking, Documents } from './documents.ts';
import type { Source } from './hosts.ts';
import { type Descriptor, readManifest } from './manifest.ts';

/** What a registry has under a name, without any of it being fetched. */
export interface Inspection {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes of the manifest or index. */
  readonly sizeBytes: number;
  /** Empty for what is made for no machine. */
  readonly platforms: readonly InspectedPlatform[];
}

/** A platform as its image tells of it, not normalised; empty where it says nothing. */
export interface InspectedPlatform {
  readonly architecture: string;
  readonly os: string;
  readonly osVersion: string;
  readonly osFeatures: readonly string[];
  readonly variant: string;
}

const text = z._default(z.string().check(z.maxLength(255)), '');
const platform = z.object({
  architecture: text,
  os: text,
  'os.version': text,
  'os.features': z.optional(z.nullable(z.array(text).check(z.maxLength(64)))),
  variant: text,
});
const index = z.object({
  manifests: z.array(z.object({ platform: z.optional(z.nullable(platform)) })).check(z.maxLength(1024)),
});
const image = z.object({
  config: z.object({ digest: z.string().check(z.refine(isDigest)), size: z.int().check(z.nonnegative()) }),
});

/** Looks a name up at one source. `readConfig` reads a blob that must be small. */
export async function inspectAt(
  source: Source,
  asking: Asking,
  documents: Pick<Documents, 'manifest'>,
  readConfig: (config: Pick<Descriptor, 'digest' | 'size'>) => Promise<Buffer>,
): Promise<Inspection> {
  const { ref } = asking;
  const { bytes, digest, contentType } = await documents.manifest(
    source,
    asking,
    ref.digest ?? ref.tag ?? 'latest',
  );
  const { json, type, isIndex } = readManifest(bytes, contentType, ref);
  const found = { mediaType: type, digest, sizeBytes: bytes.length };
  if (isIndex) {
    const list = index.safeParse(json);
    if (!list.success) throw fail.registry(`invalid manifest of ${familiarString(ref)}`);
    return { ...found, platforms: list.data.manifests.map((entry) => platformOf(entry.platform)) };
  }
  const manifest = image.safeParse(json);
  if (!manifest.success) throw fail.registry(`invalid manifest of ${familiarString(ref)}`);
  const { config } = manifest.data;
  const made = platform.safeParse(jsonOf(await readConfig({ ...config, digest: config.digest as Digest })));
  const isForSome = made.success && (made.data.os !== '' || made.data.architecture !== '');
  return { ...found, platforms: isForSome ? [platformOf(made.data)] : [] };
}

function platformOf(given: z.infer<typeof platform> | null | undefined): InspectedPlatform {
  return {
    architecture: given?.architecture ?? '',
    os: given?.os ?? '',
    osVersion: given?.['os.version'] ?? '',
    osFeatures: given?.['os.features'] ?? [],
    variant: given?.variant ?? '',
  };
}

function jsonOf(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}
