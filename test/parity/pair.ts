import { mkdir, mkdtemp, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '../../src/errors.ts';
import { MS, mount, unmount } from '../../src/host/kernel.ts';
import { archive, dockerMembers, load } from '../support/archives.ts';
import { BRIDGE, Dockerd } from '../support/dockerd.ts';
import { type CliResult, TestEngine } from '../support/engine.ts';
import { enterOwnNetwork } from '../support/network.ts';
import { images } from './images.ts';

/** One of the two engines that are compared. */
export interface Side {
  readonly name: 'dockerd' | 'skerry';
  readonly socket: string;
  readonly directory: string;
  readonly cgroupParent: string;
  /** With `binds/`, and `shared/`, whose mounts are passed on. */
  readonly places: string;
  /** Inode numbers of the daemon's own name spaces, by kind. */
  readonly namespaces: ReadonlyMap<string, string>;
  docker(args: readonly string[], o?: { input?: string }): Promise<CliResult>;
}

/** What both did with the same. */
export interface Both<T> {
  readonly dockerd: T;
  readonly skerry: T;
}

/** Debian's dockerd 20.10 and this engine as one of its generation, with the same images and the same files to bind. */
export class Pair implements AsyncDisposable {
  readonly dockerd: Side;
  readonly skerry: Side;
  readonly engine: TestEngine;
  readonly #parts: AsyncDisposableStack;

  private constructor(dockerd: Side, skerry: Side, engine: TestEngine, parts: AsyncDisposableStack) {
    this.dockerd = dockerd;
    this.skerry = skerry;
    this.engine = engine;
    this.#parts = parts;
  }

  /** Throws if this host has no dockerd and can get none, or cannot run it. */
  static async open(): Promise<Pair> {
    await using parts = new AsyncDisposableStack();
    const docker = parts.use(await Dockerd.start({ hasContainers: true }));
    parts.defer(() => docker.clear());
    await enterOwnNetwork();
    const flags = ['--default-runtime', 'runc', '--api-version-ceiling', '1.41', '--bip', BRIDGE];
    const engine = parts.use(await TestEngine.start({ flags }));
    const places = await mkdtemp(join(tmpdir(), 'skt-places-'));
    parts.defer(() => rm(places, { recursive: true }));
    const shared = join(places, 'shared');
    await mkdir(shared);
    mount('shared', shared, { type: 'tmpfs' });
    parts.defer(() => unmount(shared, { isLazy: true }));
    mount('none', shared, { flags: MS.SHARED });
    const archived = (await images()).map(({ image, tag }) => archive(dockerMembers(image, [tag])));
    const sides = [
      await sideOf('dockerd', docker, { pid: await docker.pid(), places: docker.directory }),
      await sideOf('skerry', engine, { pid: engine.pid, places }),
    ] as const;
    for (const side of sides) await prepare(side, archived);
    return new Pair(...sides, engine, parts.move());
  }

  /** Does the same with both, at the same time. */
  async both<T>(what: (side: Side) => Promise<T>): Promise<Both<T>> {
    const [dockerd, skerry] = await Promise.all([what(this.dockerd), what(this.skerry)]);
    return { dockerd, skerry };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts[Symbol.asyncDispose]();
  }
}

/** The pair, or why there is none: then a test is skipped and says so. */
export async function openPair(): Promise<{ pair: Pair | undefined; reason: string }> {
  try {
    return { pair: await Pair.open(), reason: '' };
  } catch (cause) {
    return { pair: undefined, reason: `dockerd cannot be had: ${messageOf(cause)}` };
  }
}

async function sideOf(
  name: Side['name'],
  engine: Dockerd | TestEngine,
  { pid, places }: { pid: number; places: string },
): Promise<Side> {
  const { socket, directory, cgroupParent } = engine;
  const kinds = ['cgroup', 'ipc', 'mnt', 'net', 'pid', 'time', 'user', 'uts'];
  const links = kinds.map(async (kind) => [kind, await readlink(`/proc/${pid}/ns/${kind}`)] as const);
  return {
    ...{ name, socket, directory, cgroupParent, places },
    namespaces: new Map(await Promise.all(links)),
    docker: (args, o) => engine.docker(args, o),
  };
}

async function prepare(side: Side, archived: readonly Buffer[]): Promise<void> {
  for (const image of archived) {
    const { error } = await load(side.socket, image);
    if (error !== undefined) throw new Error(`${side.name} does not load the images: ${error}`);
  }
  const binds = join(side.places, 'binds');
  await mkdir(binds, { mode: 0o755 });
  await writeFile(join(binds, 'file'), 'of the host\n', { mode: 0o644 });
  await writeFile(join(binds, 'variables'), '# a comment\nFROM_FILE=one\nHOST_PATH_IS\n', { mode: 0o644 });
  await writeFile(join(binds, 'seccomp.json'), await readFile(new URL('./seccomp.json', import.meta.url)));
}
