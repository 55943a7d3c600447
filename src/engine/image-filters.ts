import { fail } from '../errors.ts';
import { pathPattern } from '../lib/path-pattern.ts';
import { type Filters, hasLabels } from './filters.ts';
import { createdMs, type ImageView } from './image-view.ts';
import { pointInTime } from './prune-rule.ts';

const listFilters: ReadonlySet<string> = new Set([
  'dangling',
  'label',
  'before',
  'since',
  'reference',
  'until',
]);

/**
 * The images that a list shows, with those of their names that it shows. Without `isAll`, one without names that others
 * were made on is a mere step of theirs. Throws 400 for filters that make no sense, 404 for unknown images in them.
 */
export async function selectImages(
  all: readonly ImageView[],
  { filters, isAll }: { filters: Filters; isAll?: boolean },
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
  const [until] = (filters.get('until') ?? []).map(pointInTime);
  const dangling = (filters.get('dangling') ?? []).map(isTrue);
  const references = (filters.get('reference') ?? []).map(referencePattern);
  const isNamed = (name: string) => references.some((test) => test(name));
  const parents = new Set(all.flatMap(({ record }) => record.parent ?? []));
  const isStep = (view: ImageView) =>
    parents.has(view.record.id) && (isNameless(view) ? !isAll : dangling.includes(true));
  return all
    .filter(
      (view) =>
        !isStep(view) &&
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
    .filter((view) => references.length === 0 || !isNameless(view));
}

/** dockerd: an image that has only digests is neither quite dangling nor quite not. */
function isDangling(view: ImageView, wanted: boolean): boolean {
  return wanted ? view.repoTags.length === 0 : !isNameless(view);
}

function isNameless({ repoTags, repoDigests }: ImageView): boolean {
  return repoTags.length + repoDigests.length === 0;
}

function isTrue(text: string): boolean {
  if (text === 'true' || text === '1') return true;
  if (text === 'false' || text === '0') return false;
  throw fail.badRequest(`invalid filter 'dangling=[${text}]'`);
}

/** A test for a name with or without its tag. */
function referencePattern(pattern: string): (name: string) => boolean {
  const test = pathPattern(pattern);
  if (test === undefined) throw fail.host('syntax error in pattern');
  return (name) => test(name) || test(name.replace(/(@sha256:[0-9a-f]+|:[^:/]+)$/, ''));
}
