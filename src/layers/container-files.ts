import { type BigIntStats, fstatSync, lstatSync, writeSync } from 'node:fs';
import { Failure, fail } from '../errors.ts';
import { isAbsence } from '../host/files.ts';
import { nameIn, openInside, type Place, realPathInside } from '../host/inside.ts';
import { nameOf, nameText } from '../lib/byte-names.ts';
import { countedInput, Housekeeping, report, runJob } from './child-job.ts';
import { openView } from './container-view.ts';
import { decompress } from './decompression.ts';
import type { ChangesJob, FilesJob, LookJob, PathFacts, UnpackJob } from './files-job.ts';
import { tellChanges } from './tree-changes.ts';
import { TreeIntake } from './tree-intake.ts';
import { TreeTar } from './tree-tar.ts';

/**
 * The program that looks at a container's files, packs some of them onto stdout, or unpacks an archive from stdin among
 * them. Processes of the container may change everything meanwhile: see host/inside.ts.
 */
const OUTPUT = 1;

/** Changes are told in pieces of about this size. */
const CHANGES_BYTES = 32 << 10;

/** A path as dockerd takes it: `..` by its letters; a dot or a slash at its end ask for what is in a directory. */
interface Wanted {
  /** Clean, as a byte string. */
  readonly path: string;
  /** What archives call it: the last name, `.` or `/`. */
  readonly name: string;
  readonly isDirectory: boolean;
}

/** What was found at a path. */
interface Thing {
  readonly disk: string | Buffer;
  readonly stats: BigIntStats;
}

function wantedOf(text: string): Wanted {
  const parts: string[] = [];
  const all = nameOf(text).split('/');
  for (const part of all) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  const last = all.findLast((part) => part !== '');
  const path = `/${parts.join('/')}`;
  if (last === '.') return { path, name: '.', isDirectory: true };
  return { path, name: parts.at(-1) ?? '/', isDirectory: text.endsWith('/') || parts.length === 0 };
}

/** Finds it, and holds it while `work` uses it; a link at the end of a path is what is meant, unless a slash follows. */
function withThing<T>(root: number, { path, isDirectory }: Wanted, work: (thing: Thing) => T): T | undefined {
  const slash = path.lastIndexOf('/');
  using place = openInside(root, isDirectory ? path : path.slice(0, slash), { followsLast: true });
  if (place === undefined) return undefined;
  const disk = isDirectory ? `/proc/self/fd/${place.fd}/.` : nameIn(place.fd, path.slice(slash + 1));
  const stats = lookAt(disk);
  return stats === undefined ? undefined : work({ disk, stats });
}

function lookAt(disk: string | Buffer): BigIntStats | undefined {
  try {
    return lstatSync(disk, { bigint: true });
  } catch (cause) {
    if (isAbsence(cause)) return undefined;
    throw cause;
  }
}

function factsOf(root: number, { path, name }: Wanted, { stats }: Thing): PathFacts {
  return {
    name: nameText(name),
    sizeBytes: Number(stats.size),
    mode: Number(stats.mode),
    modifiedNanos: String(stats.mtimeNs),
    linkTarget: stats.isSymbolicLink() ? nameText(realPathInside(root, path)) : '',
  };
}

function stat(root: number, { path, container }: LookJob): PathFacts {
  const wanted = wantedOf(path);
  const facts = withThing(root, wanted, (thing) => factsOf(root, wanted, thing));
  if (facts === undefined) throw fail.noSuchFile(path, container);
  return facts;
}

function pack(root: number, { path, container }: LookJob): true {
  const wanted = wantedOf(path);
  const housekeeping = new Housekeeping();
  const isDone = withThing(root, wanted, (thing) => {
    report({ facts: factsOf(root, wanted, thing) });
    TreeTar.packThing({ disk: thing.disk, name: wanted.name }, (bytes) => {
      for (let done = 0; done < bytes.length; ) done += writeSync(OUTPUT, bytes, done);
      housekeeping.after(bytes.length);
    });
    return true as const;
  });
  if (isDone === undefined) throw fail.noSuchFile(path, container);
  return true;
}

async function unpack(root: number, job: UnpackJob): Promise<true> {
  const { path } = wantedOf(job.path);
  using place = openInside(root, path, { followsLast: true });
  if (place === undefined) throw fail.noSuchFile(job.path, job.container);
  if (!fstatSync(place.fd).isDirectory()) throw fail.notADirectory();
  checkWritable(place, job);
  process.umask(0);
  using intake = new TreeIntake({ root, directory: place.path, ...job });
  const housekeeping = new Housekeeping();
  try {
    await decompress(countedInput(process.stdin), 'auto', (bytes) => {
      intake.push(bytes);
      housekeeping.after(bytes.length);
    });
    intake.finish();
  } catch (cause) {
    const isArchives = cause instanceof Failure && cause.code === 'CORRUPT';
    throw isArchives ? fail.invalidArchive(cause.message, cause) : cause;
  }
  return true;
}

// dockerd: checkIfPathIsInAVolume
function checkWritable({ path }: Place, { mounted, isRootReadonly }: UnpackJob): void {
  const text = nameText(path);
  const around = mounted.filter(({ destination }) => `${text}/`.startsWith(`${destination}/`));
  const innermost = around.sort((a, b) => b.destination.length - a.destination.length)[0];
  if (innermost === undefined && isRootReadonly) throw fail.readonlyFiles('container rootfs');
  if (innermost?.isWritable === false) throw fail.readonlyFiles('mounted volume');
}

function changes(job: ChangesJob): true {
  const housekeeping = new Housekeeping();
  let pending = '';
  const flush = () => {
    const bytes = Buffer.from(pending, 'latin1');
    for (let done = 0; done < bytes.length; ) done += writeSync(OUTPUT, bytes, done);
    housekeeping.after(bytes.length);
    pending = '';
  };
  tellChanges(job, (kind, path) => {
    pending += `${kind}${path}\0`;
    if (pending.length > CHANGES_BYTES) flush();
  });
  flush();
  return true;
}

async function work(job: FilesJob): Promise<PathFacts | true> {
  if (job.kind === 'changes') return changes(job);
  const root = openView(job.view);
  if (job.kind === 'unpack') return unpack(root, job);
  return job.kind === 'pack' ? pack(root, job) : stat(root, job);
}

void runJob(work);
