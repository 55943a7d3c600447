import { copyFile, mkdir, rename, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fail } from '../errors.ts';
import type { Arguments } from '../lib/arguments.ts';
import { shortDigest } from '../lib/digest.ts';
import { formatBytes } from '../lib/progress-bar.ts';
import { familiarString, parseReference, type Reference, withDefaultTag } from '../lib/reference.ts';
import { numberOf, textOf, withSources } from './delta-context.ts';
import { type DeltaPlan, makeDelta, namesFor, planDelta, unpackLayers } from './delta-making.ts';
import { type PushedDelta, pushDelta } from './delta-push.ts';
import { earlierImages } from './earlier-tags.ts';
import { ProgressLine } from './progress-line.ts';
import { openImage, type SourceContext, type SourceImage } from './source-image.ts';
import type { Terminal } from './terminal.ts';

/** The exit code for deltas that save too little to be kept. */
const TOO_LITTLE = 3;
/** Each may take 50 MB at the best quality. */
const MOST_DEFAULT_JOBS = 4;

interface Wish {
  /** A file; with `fromTags`, a directory of files. */
  readonly output: string | undefined;
  /** What the target is to be called where the file is loaded. */
  readonly tag: Reference | undefined;
  readonly isPushing: boolean;
  /** What a pushed delta says of itself; nothing unless it is told to. */
  readonly createdAt: string | undefined;
  readonly fromTags: number;
  readonly quality: number;
  readonly jobs: number;
  /** Per cent. */
  readonly minSaving: number;
  readonly isJson: boolean;
}

interface Made {
  readonly plan: DeltaPlan;
  readonly bytes: number;
  /** Per cent of the full bytes. */
  readonly saving: number;
  readonly isKept: boolean;
  readonly output?: string | undefined;
  readonly pushed?: PushedDelta | undefined;
  readonly seconds: number;
}

/** Makes one delta, or one from each of several earlier images. The exit code is 3 if none saves enough. */
export async function createDeltas(call: Arguments, terminal: Terminal): Promise<number> {
  const wish = wishOf(call, terminal);
  return withSources(call, terminal, async (context) => {
    const target = await openImage(call.rest.at(-1) ?? '', context);
    if (wish.isPushing && target.ref === undefined)
      throw fail.config('--push needs a target that is in a registry');
    const bases = await basesOf(call, wish, target, context);
    if (wish.fromTags > 0 && wish.output !== undefined) await mkdir(wish.output, { recursive: true });
    const all: Made[] = [];
    for (const base of bases) {
      const made = await createDelta(planDelta(base, target), wish, context, terminal);
      all.push(made);
      if (!wish.isJson) terminal.stdout.write(describe(made, wish));
    }
    const facts = all.map(factsOf);
    if (wish.isJson) terminal.stdout.write(`${JSON.stringify(facts, undefined, 2)}\n`);
    return all.length === 0 || all.some(({ isKept }) => isKept) ? 0 : TOO_LITTLE;
  });
}

function wishOf({ values, rest }: Arguments, { env }: Terminal): Wish {
  const tag = textOf(values, 'tag');
  const wish: Wish = {
    output: textOf(values, 'output'),
    tag: tag === undefined ? undefined : withDefaultTag(parseReference(tag)),
    createdAt: createdAt(env['SOURCE_DATE_EPOCH']),
    isPushing: values.get('push') === true,
    fromTags: numberOf(values, 'from-tags', { fallback: 0, least: 1, most: 100 }),
    quality: numberOf(values, 'quality', { fallback: 11, least: 0, most: 11 }),
    jobs: numberOf(values, 'jobs', {
      fallback: Math.min(availableParallelism(), MOST_DEFAULT_JOBS),
      least: 1,
      most: 64,
    }),
    minSaving: numberOf(values, 'min-saving', { fallback: 30, least: 0, most: 100 }),
    isJson: values.get('json') === true,
  };
  if ((wish.output !== undefined) === wish.isPushing) throw fail.config('give either --output or --push');
  if (wish.isPushing && tag !== undefined)
    throw fail.config('--tag needs --output: what is pushed goes by the name of its target');
  if (wish.tag?.digest !== undefined) throw fail.config(`--tag takes a name with a tag, not ${tag}`);
  if (rest.length !== (wish.fromTags > 0 ? 1 : 2))
    throw fail.config('name BASE and TARGET, or TARGET alone with --from-tags');
  return wish;
}

/** Seconds since 1970, as reproducible builds have it (reproducible-builds.org, SOURCE_DATE_EPOCH), to RFC 3339. */
function createdAt(epoch: string | undefined): string | undefined {
  if (epoch === undefined || epoch === '') return undefined;
  if (!/^\d{1,11}$/.test(epoch)) throw fail.config(`SOURCE_DATE_EPOCH is no number of seconds: ${epoch}`);
  return new Date(Number(epoch) * 1000).toISOString().replace('.000Z', 'Z');
}

async function basesOf(
  { rest }: Arguments,
  { fromTags }: Wish,
  target: SourceImage,
  context: SourceContext,
): Promise<SourceImage[]> {
  if (fromTags === 0) return [await openImage(rest[0] ?? '', context)];
  const bases = await earlierImages(target, fromTags, context);
  if (bases.length === 0) throw fail.config(`${target.name}: its repository has no earlier image`);
  return bases;
}

async function createDelta(
  plan: DeltaPlan,
  wish: Wish,
  context: SourceContext,
  { stderr }: Terminal,
): Promise<Made> {
  const { workspace, signal } = context;
  const startedMs = Date.now();
  if (plan.missing.length === 0) return { plan, bytes: 0, saving: 0, isKept: false, seconds: 0 };
  const layers = [...plan.sources, ...plan.missing];
  const packedBytes = layers.reduce((sum, layer) => sum + layer.packedBytes, 0);
  const fetch = async () => {
    using progress = new ProgressLine(stderr, 'reading layers', packedBytes);
    const tars = await unpackLayers(layers, workspace, { progress, signal });
    return { sources: tars.slice(0, plan.sources.length), missing: tars.slice(plan.sources.length) };
  };
  const tars = await fetch();
  const tarBytes = tars.missing.reduce((sum, tar) => sum + tar.tarBytes, 0);
  using progress = new ProgressLine(stderr, 'encoding', tarBytes);
  const { quality, jobs } = wish;
  const names = wish.output === undefined ? undefined : namesFor(plan, wish.tag);
  const delta = await makeDelta(plan, tars, { names, workspace, quality, jobs, progress, signal });
  const saving = plan.fullBytes === 0 ? 0 : 100 * (1 - delta.bytes / plan.fullBytes);
  const isKept = saving >= wish.minSaving;
  const output = isKept ? outputOf(plan, wish) : undefined;
  if (output !== undefined) await publish(delta.path, output);
  const pushed = isKept && wish.isPushing ? await pushDelta(plan, delta, context, wish) : undefined;
  await rm(delta.path);
  return {
    plan,
    bytes: delta.bytes,
    saving,
    isKept,
    output,
    pushed,
    seconds: (Date.now() - startedMs) / 1000,
  };
}

/** Of several deltas each has a file of its own, called after the two tags. */
function outputOf({ base, target }: DeltaPlan, { output, fromTags }: Wish): string | undefined {
  if (output === undefined || fromTags === 0) return output;
  const [from, to] = [base, target].map(({ ref, id }) => ref?.tag ?? shortDigest(id));
  return join(output, `${from}-to-${to}.delta`);
}

/** The whole file or none of it. */
async function publish(from: string, to: string): Promise<void> {
  const part = `${to}.part-${process.pid}`;
  try {
    await copyFile(from, part);
    await rename(part, to);
  } catch (cause) {
    await rm(part, { force: true });
    throw fail.host(`cannot write ${to}`, cause);
  }
}

function describe({ plan, bytes, saving, isKept, output, pushed, seconds }: Made, wish: Wish): string {
  const { base, target, missing, sharedCount, fullBytes } = plan;
  const images = `${base.name} (${shortDigest(base.id)}) -> ${target.name} (${shortDigest(target.id)})\n`;
  if (missing.length === 0) return `${images}  the base has every layer of the target: no delta is needed\n`;
  const layers = `  layers: ${missing.length} to make, ${sharedCount} that the base has\n`;
  const sizes = `${formatBytes(bytes)} instead of ${formatBytes(fullBytes)}`;
  const figures = `  ${sizes}: ${Math.floor(saving * 10) / 10} % saved, in ${seconds.toFixed(1)} s\n`;
  const where = pushed === undefined ? output : `${familiarString(pushed.ref)}@${pushed.digest}`;
  const outcome = isKept ? `  written to ${where}\n` : `  not kept: it saves less than ${wish.minSaving} %\n`;
  return images + layers + figures + outcome;
}

function factsOf({ plan, bytes, saving, isKept, output, pushed, seconds }: Made): object {
  const factsOfImage = ({ name, id, manifest }: SourceImage) => ({ name, id, manifest: manifest.digest });
  return {
    base: factsOfImage(plan.base),
    target: factsOfImage(plan.target),
    layers: plan.missing.map(({ diffId, packedBytes }) => ({ diffId, fullBytes: packedBytes })),
    fullBytes: plan.fullBytes,
    deltaBytes: bytes,
    savedPercent: Number(saving.toFixed(2)),
    isKept,
    ...(output !== undefined && { output }),
    ...(pushed && { pushed: familiarString(pushed.ref), digest: pushed.digest }),
    seconds,
  };
}
