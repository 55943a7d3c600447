import * as z from 'zod/mini';
import { fail } from '../errors.ts';
import type { Digest } from '../lib/digest.ts';
import { escapedJson } from '../lib/json.ts';
import type { Platform } from '../lib/platform.ts';
import { parseReference, type Reference } from '../lib/reference.ts';
import { type ArchiveContents, absent } from './archive-contents.ts';
import { type ArchivedImage, MOST_LAYERS, readConfig, readJson } from './archived-image.ts';

/**
 * Archives from before Docker 1.10: a directory for each layer, named by an ID that is no digest, with the layer, the
 * config as it was at that step, and its parent's ID (Docker image specification v1.0).
 */

const repositories = z.record(z.string(), z.record(z.string(), z.string()));
const step = z.object({
  parent: z.optional(z.string()),
  created: z.optional(z.string()),
  author: z.optional(z.string()),
  comment: z.optional(z.string()),
  container_config: z.optional(z.nullable(z.object({ Cmd: z.optional(z.nullable(z.array(z.string()))) }))),
});

/** What Go writes for a time that was never set. */
const NO_TIME = '0001-01-01T00:00:00Z';
/** What a step's config says of itself and not of the image. */
const ownKeys = new Set(['id', 'parent', 'Size', 'parent_id', 'layer_id', 'throwaway', 'rootfs', 'history']);

/**
 * The images that have a name, and those that no other is built on. dockerd makes one of every step; here, the steps
 * between would be images without a name that nobody asked for.
 */
export function readLegacyArchive(contents: ArchiveContents, host: Platform): ArchivedImage[] {
  const names = namesById(readJson(contents.document('repositories'), repositories, 'repositories'));
  const ids = contents.paths().flatMap((path) => /^([^/]+)\/json$/.exec(path)?.[1] ?? []);
  const parents = new Set(ids.map((id) => readStep(contents, id).parent));
  const tips = ids.filter((id) => !parents.has(id));
  const images = new Set([...names.keys(), ...tips]);
  return [...images].map((id) => {
    if (!ids.includes(id)) throw fail.invalidArchive(`invalid target ID: ${id}`);
    return readImage(contents, id, { names: names.get(id) ?? [], host });
  });
}

function readImage(
  contents: ArchiveContents,
  id: string,
  { names, host }: { names: readonly Reference[]; host: Platform },
): ArchivedImage {
  const steps: ReturnType<typeof readStep>[] = [];
  for (let at: string | undefined = id; at; at = steps[0]?.parent) {
    steps.unshift(readStep(contents, at)); // a chain that bites its tail ends here as well
    if (steps.length > MOST_LAYERS) throw fail.invalidArchive(`image ${id} has too many layers`);
  }
  const layers = steps.map(({ path }) => ({ path, diffId: layerOf(contents, path) }));
  const config = Buffer.from(
    configOf(
      steps,
      layers.map(({ diffId }) => diffId),
    ),
  );
  const { id: imageId, platform } = readConfig(config, host);
  return { id: imageId, platform, config: config.toString('utf8'), layers, names };
}

function readStep(contents: ArchiveContents, id: string) {
  const bytes = contents.document(`${id}/json`);
  const { created, author, comment, container_config, parent } = readJson(bytes, step, `${id}/json`);
  const command = (container_config?.Cmd ?? []).join(' ');
  return {
    bytes,
    parent,
    path: `${id}/layer.tar`,
    // in the order in which Docker writes it, so that the image's ID is Docker's
    history: {
      created: created ?? NO_TIME,
      ...(author && { author }),
      ...(command && { created_by: command }),
      ...(comment && { comment }),
    },
  };
}

function layerOf(contents: ArchiveContents, path: string): Digest {
  const layer = contents.find(path);
  if (layer === undefined) throw absent(path);
  if (layer.kind !== 'layer') throw fail.invalidArchive(`${path} is no layer`);
  return layer.diffId;
}

/** The last step's config with what an image of today says of its layers; keys are sorted, as Docker's come out. */
function configOf(steps: readonly ReturnType<typeof readStep>[], diffIds: readonly Digest[]): string {
  const bytes = steps.at(-1)?.bytes ?? Buffer.from('{}');
  const own = readJson(bytes, z.record(z.string(), z.unknown()), 'the config of an image');
  const entries = [
    ...Object.entries(own).filter(([key]) => !ownKeys.has(key)),
    ['rootfs', { type: 'layers', diff_ids: diffIds }] as const,
    ['history', steps.map(({ history }) => history)] as const,
  ];
  return escapedJson(Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1))));
}

function namesById(byRepository: z.infer<typeof repositories>): Map<string, Reference[]> {
  const names = new Map<string, Reference[]>();
  for (const [repository, tags] of Object.entries(byRepository)) {
    for (const [tag, id] of Object.entries(tags)) {
      const name = parseReference(`${repository}:${tag}`);
      names.set(id, [...(names.get(id) ?? []), name]);
    }
  }
  return names;
}
