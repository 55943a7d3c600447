import * as z from 'zod/mini';
import { fail } from '../errors.ts';
import { digestOf } from '../lib/digest.ts';
import type { Platform } from '../lib/platform.ts';
import type { ArchiveContents } from './archive-contents.ts';
import { type ArchivedImage, readConfig, readJson, readTag } from './archived-image.ts';

const MOST_IMAGES = 1024;

const manifest = z.nullable(
  z
    .array(
      z.object({
        Config: z.string(),
        RepoTags: z.optional(z.nullable(z.array(z.string()))),
        Layers: z.nullable(z.array(z.string())),
        Parent: z.optional(z.string()),
      }),
    )
    .check(z.maxLength(MOST_IMAGES)),
);

/** The images of an archive with a `manifest.json`, as Docker writes them since 1.10, in its order. */
export function readDockerArchive(contents: ArchiveContents, host: Platform): ArchivedImage[] {
  const items = readJson(contents.document('manifest.json'), manifest, 'manifest.json') ?? [];
  return items.map(({ Config, RepoTags, Layers, Parent }) => {
    const bytes = contents.document(Config);
    const paths = Layers ?? [];
    checkName(Config, bytes);
    const { id, platform, diffIds } = readConfig(bytes, host);
    if (paths.length !== diffIds.length) {
      throw fail.invalidArchive(
        `invalid manifest, layers length mismatch: expected ${paths.length}, got ${diffIds.length}`,
      );
    }
    return {
      id,
      platform,
      config: bytes.toString('utf8'),
      layers: diffIds.map((diffId, at) => ({ diffId, path: paths[at] ?? '' })),
      names: (RepoTags ?? []).map(readTag),
      ...(Parent && { parent: Parent }),
    };
  });
}

/** A config is called after its digest: `HEX.json`, or `blobs/sha256/HEX`. Other names promise nothing. */
function checkName(path: string, bytes: Buffer): void {
  const [, hex] = /(?:^|\/)([0-9a-f]{64})(?:\.json)?$/.exec(path) ?? [];
  if (hex !== undefined && digestOf(bytes) !== `sha256:${hex}`)
    throw fail.invalidArchive(`the config ${path} is not what its name says`);
}
