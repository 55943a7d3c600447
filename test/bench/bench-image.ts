import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { copyFile, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Transform } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { run } from '../../src/host/exec.ts';
import { type Digest, digestOf, hexOf, parseDigest } from '../../src/lib/digest.ts';
import { makeImage, push, type TestLayer } from '../support/registry-images.ts';
import type { Disk } from './disk.ts';
import { cacheDirectory, root } from './sandbox.ts';

/** What an image weighs. */
export interface ImageFacts {
  files: number;
  /** All blobs, as downloaded. */
  compressedBytes: number;
  /** All tars. */
  tarBytes: number;
  /** The contents of all regular files: what `docker images` shows. */
  fileBytes: number;
  /** The layers, lowest first. */
  blobs: Digest[];
}

const MB = 1_000_000;
/** Where a layer goes on when its own sources are used up: any Linux has enough there. */
const anywhere = ['/usr/lib', '/usr/share', '/usr/bin'];

/** Like an image of a real service: libraries, programs, a great many small files, one big binary, an app on top. */
const plan: readonly { title: string; bytes: number; sources: readonly string[] }[] = [
  {
    title: 'libraries',
    bytes: 110 * MB,
    sources: ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu'],
  },
  { title: 'programs', bytes: 60 * MB, sources: ['/usr/bin', '/usr/sbin'] },
  { title: 'small files', bytes: 80 * MB, sources: ['/usr/share'] },
  { title: 'runtime', bytes: 125 * MB, sources: [join(root, 'node_modules/node/bin'), '/usr/lib/python3'] },
  { title: 'modules', bytes: 75 * MB, sources: [join(root, 'node_modules')] },
  { title: 'app', bytes: 30 * MB, sources: ['/usr/lib/python3.11', '/usr/share/perl'] },
];

const applets = ['sh', 'true', 'sleep', 'cat'];
/** Entries of the first layer that are not files of this machine. */
const staged = ['bin', 'bin/busybox', ...applets.map((name) => `bin/${name}`)];

/**
 * Puts the image of the bench into a registry whose storage is `storage`: six gzip layers of files of this machine,
 * 480 MB unpacked, a static busybox at /bin. Costs half a minute, once; later the storage has it.
 */
export async function ensureImage(
  host: string,
  storage: string,
  say: (text: string) => void,
): Promise<ImageFacts> {
  const factsPath = join(storage, 'bench-image.json');
  if (existsSync(factsPath)) return JSON.parse(readFileSync(factsPath, 'utf8'));
  const facts: ImageFacts = { files: 0, compressedBytes: 0, tarBytes: 0, fileBytes: 0, blobs: [] };
  const layers: TestLayer[] = [];
  const taken = new Set<string>();
  const work = join(cacheDirectory, 'image');
  await rm(work, { recursive: true, force: true });
  const stage = await stageBusybox(work);
  for (const { title, bytes, sources } of plan) {
    const { paths, fileBytes } = choose([...sources, ...anywhere], bytes, taken);
    say(`making the layer of ${title}: ${paths.length} entries, ${Math.round(fileBytes / MB)} MB`);
    const extra = layers.length === 0 ? ['--directory', stage, ...staged.map((path) => `./${path}`)] : [];
    const { layer, tarBytes } = await packLayer(extra, paths, work);
    layers.push(layer);
    facts.blobs.push(layer.digest);
    facts.files += paths.length;
    facts.compressedBytes += layer.blob.length;
    facts.tarBytes += tarBytes;
    facts.fileBytes += fileBytes;
  }
  await push(host, 'bench/service', ['1'], makeImage({ layers, dialect: 'docker' }));
  await rm(work, { recursive: true });
  writeFileSync(factsPath, JSON.stringify(facts));
  return facts;
}

/**
 * What the file system itself makes of the image: bytes written when GNU tar unpacks the layers, and each is synced. No
 * engine that keeps its files apart can write less.
 */
export async function leastWrittenBytes(facts: ImageFacts, storage: string, disk: Disk): Promise<number> {
  const before = await disk.writtenBytes();
  for (const digest of facts.blobs) {
    const hex = hexOf(digest);
    const blob = join(storage, 'docker/registry/v2/blobs/sha256', hex.slice(0, 2), hex, 'data');
    const target = join(disk.path, hex);
    mkdirSync(target);
    const { code, stderr } = await run('tar', ['--extract', '--gzip', '--file', blob, '--directory', target]);
    if (code !== 0) throw new Error(`tar: ${stderr}`);
    await disk.writtenBytes(); // syncs
  }
  return (await disk.writtenBytes()) - before;
}

async function stageBusybox(work: string): Promise<string> {
  const bin = join(work, 'stage/bin');
  mkdirSync(bin, { recursive: true });
  const tool = join(root, '.cache/tools/busybox');
  await copyFile(existsSync(tool) ? tool : '/bin/busybox', join(bin, 'busybox'));
  for (const name of applets) symlinkSync('busybox', join(bin, name));
  return join(work, 'stage');
}

/** Directories, links and files below the sources in order, until their contents add up. */
function choose(
  sources: readonly string[],
  bytes: number,
  taken: Set<string>,
): { paths: string[]; fileBytes: number } {
  const paths: string[] = [];
  let fileBytes = 0;
  const visit = (path: string) => {
    if (fileBytes >= bytes || path.includes('\n')) return;
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat?.isDirectory()) {
      paths.push(path);
      for (const name of readdirSync(path).sort()) visit(join(path, name));
    } else if (stat?.isSymbolicLink() || (stat?.isFile() && fileBytes + stat.size <= bytes * 1.02)) {
      if (taken.has(path)) return;
      taken.add(path);
      paths.push(path);
      if (stat.isFile()) fileBytes += stat.size;
    }
  };
  for (const source of sources) visit(source);
  return { paths, fileBytes };
}

/** GNU tar, gzip at its usual level, both digests on the way. */
async function packLayer(
  extra: readonly string[],
  paths: readonly string[],
  work: string,
): Promise<{ layer: TestLayer; tarBytes: number }> {
  await mkdir(work, { recursive: true });
  const listPath = join(work, 'list');
  writeFileSync(listPath, paths.map((path) => `.${path}\n`).join(''));
  const tar = spawn(
    'tar',
    [
      ...['--create', '--no-recursion', '--hard-dereference', '--numeric-owner', '--owner=0', '--group=0'],
      ...[...extra, '--directory=/', '--verbatim-files-from', '--no-unquote', `--files-from=${listPath}`],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const ended = new Promise<number | null>((done, reject) => tar.once('error', reject).once('exit', done));
  const hash = createHash('sha256');
  let tarBytes = 0;
  const count = new Transform({
    transform(chunk: Buffer, _, done) {
      hash.update(chunk);
      tarBytes += chunk.length;
      done(null, chunk);
    },
  });
  const gzip = createGzip({ level: 6 });
  const [blob] = await Promise.all([buffer(gzip), pipeline(tar.stdout, count, gzip)]);
  if ((await ended) !== 0) throw new Error('tar failed: files that changed meanwhile? Try again');
  const diffId = parseDigest(`sha256:${hash.digest('hex')}`);
  const layer = { tar: Buffer.alloc(0), diffId, blob, digest: digestOf(blob), packing: 'gzip' } as const;
  return { layer, tarBytes };
}
