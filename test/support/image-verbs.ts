/** What can be done to images, as a table: how it begins, the request, and how it must end if it is not cut short. */
import { type ApiRequest, demand, type ImageWorld, type Names, pullRequest } from './image-world.ts';

/** One thing that a client can have done to images. */
export interface Verb {
  readonly name: string;
  /** Brings about what it needs, on top of `app:current`, which stands for v1 and may have containers. */
  prepare?(world: ImageWorld): Promise<void>;
  request(world: ImageWorld): ApiRequest;
  /** What the tags stand for afterwards; `NEW` is an image that was not there before. */
  outcome(before: Names, world: ImageWorld): Names;
  /** What else must hold once it has succeeded. */
  check?(world: ImageWorld): Promise<void>;
}

/** Stands for the ID of an image that nobody can know beforehand. */
export const NEW = 'new';

const current = 'app:current';

export const verbs: readonly Verb[] = [
  {
    name: 'pull',
    request: ({ name }) => pullRequest(name('app:v2')),
    outcome: (before, { versions }) => withName(before, 'app:v2', versions.v2.configDigest),
  },
  {
    name: 'update',
    prepare: ({ point, versions }) => point('current', versions.v2),
    request: ({ name }) => pullRequest(name(current)),
    outcome: (before, { versions }) => withName(before, current, versions.v2.configDigest),
  },
  {
    name: 'tag',
    request: ({ name }) => ({
      method: 'POST',
      path: `/images/${name(current)}/tag?repo=${encodeURIComponent(name('app'))}&tag=also`,
    }),
    outcome: (before) => withName(before, 'app:also', before.get(current)),
  },
  {
    name: 'delete',
    prepare: async ({ engine, name }) => {
      await demand(engine, pullRequest(name('app:v2')));
    },
    request: ({ name }) => ({ method: 'DELETE', path: `/images/${name('app:v2')}` }),
    outcome: (before) => withName(before, 'app:v2', undefined),
  },
];

function withName(names: Names, name: string, id: string | undefined): Names {
  const changed = new Map(names);
  if (id === undefined) changed.delete(name);
  else changed.set(name, id);
  return changed;
}

/** Brings about what every verb starts from: `app:current` is v1, here and in the registry. */
export async function prepare(world: ImageWorld, verb: Verb): Promise<void> {
  const { engine, name, point, versions } = world;
  await point('current', versions.v1);
  await demand(engine, pullRequest(name(current)));
  await verb.prepare?.(world);
}

/**
 * What is wrong with the names after a verb that was cut short: each must stand for what it stood for before, or for
 * what it stands for after; once the client has heard of success, for nothing else but that.
 */
export function faultyNames(o: { before: Names; after: Names; now: Names; isDone: boolean }): string[] {
  const faults: string[] = [];
  for (const name of new Set([...o.before.keys(), ...o.after.keys(), ...o.now.keys()])) {
    const [was, is] = [o.before.get(name), o.now.get(name)];
    const wanted = o.after.get(name);
    const isNew = wanted === NEW ? is !== undefined && ![...o.before.values()].includes(is) : is === wanted;
    const isOld = is === was && !o.isDone;
    if (!isNew && !isOld)
      faults.push(`${name} stands for ${is}, not ${wanted}${o.isDone ? '' : ` or ${was}`}`);
  }
  return faults;
}
