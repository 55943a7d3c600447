import { type Digest, digestOf } from '../../src/lib/digest.ts';
import type { ImageRecord } from '../../src/store/records.ts';

/** An image as the engine remembers it, of layers with these diff IDs. */
export function imageRecord(
  o: { config?: object; diffIds?: Digest[]; platform?: ImageRecord['platform'] } = {},
): ImageRecord {
  const platform = o.platform ?? { os: 'linux', architecture: 'amd64' };
  const config = JSON.stringify({ ...platform, ...o.config });
  const manifest = JSON.stringify({ schemaVersion: 2, config: digestOf(config) });
  return {
    id: digestOf(config),
    manifestDigest: digestOf(manifest),
    manifestMediaType: 'application/vnd.oci.image.manifest.v1+json',
    manifest,
    config,
    diffIds: o.diffIds ?? [],
    sizeBytes: 1,
    pulledAt: '2026-01-01T00:00:00Z',
    platform,
  };
}
