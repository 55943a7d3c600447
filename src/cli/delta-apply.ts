import { closeSync, openSync, writeSync } from 'node:fs';
import { DeltaReader } from '../delta/delta-reader.ts';
import { fail } from '../errors.ts';
import type { Arguments } from '../lib/arguments.ts';
import type { Digest } from '../lib/digest.ts';
import { formatBytes } from '../lib/progress-bar.ts';
import { familiarString, parseReference, withDefaultTag } from '../lib/reference.ts';
import { textOf, withSources } from './delta-context.ts';
import { openDelta } from './delta-source.ts';
import { decodeLayers, targetOf, unpackBase } from './delta-target.ts';
import { imageWriter } from './image-output.ts';
import { openImage } from './source-image.ts';
import type { Terminal } from './terminal.ts';

/** Makes the image that a delta leads to, and writes it for `docker load` and others. Its ID is the target's. */
export async function applyDelta(call: Arguments, terminal: Terminal): Promise<number> {
  const { values, rest } = call;
  const baseName = baseOf(values);
  const output = textOf(values, 'output');
  if (output === undefined) throw fail.config('give --output oci:DIR or docker-archive:FILE');
  const write = imageWriter(output);
  const tag = textOf(values, 'tag');
  const tags = tag === undefined ? [] : [withDefaultTag(parseReference(tag))];
  return withSources(call, terminal, async (context) => {
    const { workspace, signal } = context;
    const source = await openDelta(rest[0] ?? '', context);
    const reader = await DeltaReader.open(source.open());
    const target = targetOf(reader.header);
    const base = await openImage(baseName, context);
    const tars = await unpackBase(base, reader.header, { isWhole: true, context, stderr: terminal.stderr });
    const files = new Map<Digest, string>();
    await decodeLayers(reader, tars, {
      signal,
      stderr: terminal.stderr,
      open: ({ diffId }) => {
        const path = workspace.newPath();
        files.set(diffId, path);
        const file = openSync(path, 'wx', 0o600);
        return { sink: (bytes) => writeAll(file, bytes), close: () => closeSync(file) };
      },
    });
    const sizes = new Map([...tars, ...reader.header.layers].map((tar) => [tar.diffId, tar.tarBytes]));
    for (const { diffId } of target.layers) {
      if (!files.has(diffId)) files.set(diffId, workspace.pathOf(diffId));
    }
    const layers = target.layers.map(({ diffId }) => ({ diffId, tarBytes: sizes.get(diffId) ?? 0 }));
    await write({ ...target, layers, tags, files }, { signal });
    const facts = { id: target.id, output, ...(tags[0] && { tag: familiarString(tags[0]) }) };
    terminal.stdout.write(
      values.get('json') === true
        ? `${JSON.stringify(facts)}\n`
        : `made ${target.id} in ${output}, with ${formatBytes(source.bytes)} of delta\n`,
    );
    return 0;
  });
}

/** Decodes a delta and keeps nothing of it. Every digest in it is compared; the first that differs is a failure. */
export async function verifyDelta(call: Arguments, terminal: Terminal): Promise<number> {
  const baseName = baseOf(call.values);
  return withSources(call, terminal, async (context) => {
    const source = await openDelta(call.rest[0] ?? '', context);
    const reader = await DeltaReader.open(source.open());
    const { id } = targetOf(reader.header);
    const base = await openImage(baseName, context);
    const tars = await unpackBase(base, reader.header, { isWhole: false, context, stderr: terminal.stderr });
    await decodeLayers(reader, tars, {
      signal: context.signal,
      stderr: terminal.stderr,
      open: () => ({ sink: () => {}, close: () => {} }),
    });
    const layers = reader.header.layers.map(({ diffId, tarBytes }) => ({ diffId, tarBytes }));
    terminal.stdout.write(
      call.values.get('json') === true
        ? `${JSON.stringify({ id, base: base.id, layers })}\n`
        : `whole: it makes ${layers.length === 1 ? '1 layer' : `${layers.length} layers`} of ${id}\n`,
    );
    return 0;
  });
}

function baseOf(values: Arguments['values']): string {
  const base = textOf(values, 'base');
  if (base === undefined) throw fail.config('give --base IMAGE, the image that the delta builds on');
  return base;
}

function writeAll(file: number, bytes: Buffer): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
}
