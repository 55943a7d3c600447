import { fail } from '../errors.ts';
import { parseGoDuration } from '../lib/go-duration.ts';
import { type Filters, hasLabels } from './filters.ts';
import { createdMs, type ImageView } from './image-view.ts';

const listFilters: ReadonlySet<string> = new Set([
  'dangling',
  'label',
  'before',
  'since',
  'reference',
  'until',
]);

/** The images that a list shows, with those of their names that it shows. Throws 400 for filters that make no sense, 404 for unknown images in them. */
export async function selectImages(
  all: readonly ImageView[],
  filters: Filters,
  find: (name: string) => Promise<ImageView>,
): Promise<ImageView[]> {
  for (const key of filters.keys()) {
    if (!listFilters.has(key)) throw fail.badRequest(`invalid filter '${key}'`);
  }
  const bound = async (key: string) => {
    const name = filters.get(key)?.[0];
    return name === undefined ? undefined : createdMs(await find(name));
  };
  const [before, since] = [await bound('before'), await bound('since')];
  const [until] = (filters.get('until') ?? []).map(untilMs);
  const dangling = (filters.get('dangling') ?? []).map(isTrue);
  const references = (filters.get('reference') ?? []).map(referencePattern);
  const isNamed = (name: string) => references.some((test) => test(name));
  return all
    .filter(
      (view) =>
        hasLabels(filters, view.config.config?.Labels ?? null) &&
        (dangling.length === 0 || dangling.some((wanted) => isDangling(view, wanted))) &&
        (before === undefined || createdMs(view) < before) &&
        (since === undefined || createdMs(view) > since) &&
        (until === undefined || createdMs(view) < until),
    )
    .map((view) =>
      references.length === 0
        ? view
        : { ...view, repoTags: view.repoTags.filter(isNamed), repoDigests: view.repoDigests.filter(isNamed) },
    )
    .filter(
      ({ repoTags, repoDigests }) => references.length === 0 || repoTags.length + repoDigests.length > 0,
    );
}

/** dockerd: an image that has only digests is neither quite dangling nor quite not. */
function isDangling({ repoTags, repoDigests }: ImageView, wanted: boolean): boolean {
  return wanted ? repoTags.length === 0 : repoTags.length + repoDigests.length > 0;
}

function isTrue(text: string): boolean {
  if (text === 'true' || text === '1') return true;
  if (text === 'false' || text === '0') return false;
  throw fail.badRequest(`invalid filter 'dangling=[${text}]'`);
}

/** A point in time in milliseconds since 1970: an RFC 3339 text, Unix seconds, or how long ago as Go writes it. */
function untilMs(text: string): number {
  const ago = parseGoDuration(text);
  if (ago !== undefined) return Date.now() - ago;
  const ms = /^\d+(?:\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(text);
  if (Number.isNaN(ms)) throw fail.host(`failed to parse value as time or duration: "${text}"`);
  return ms;
}

/** A test for Go's path.Match patterns on the name, with or without its tag. */
function referencePattern(pattern: string): (name: string) => boolean {
  const source = pattern
    .replace(/[.+^${}()|\\]/g, '\\$&')
    .replace(/\*/g, '[^/]*')
    .replace(/\?/g, '[^/]');
  let test: RegExp;
  try {
    test = new RegExp(`^${source}$`);
  } catch (cause) {
    throw fail.host('syntax error in pattern', cause);
  }
  return (name) => test.test(name) || test.test(name.replace(/(@sha256:[0-9a-f]+|:[^:/]+)$/, ''));
}
