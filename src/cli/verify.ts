import * as z from 'zod/mini';
import { fail } from '../errors.ts';
import type { Arguments } from '../lib/arguments.ts';
import { formatBytes } from '../lib/progress-bar.ts';
import { type Call, Daemon } from './daemon.ts';
import { readCredentials } from './docker-config.ts';
import { table } from './table.ts';
import type { Terminal } from './terminal.ts';

const verified = z.object({
  Id: z.string(),
  RepoTags: z.array(z.string()),
  Layers: z.array(
    z.object({
      DiffID: z.string(),
      State: z.enum(['ok', 'damaged', 'missing', 'repaired']),
      Bytes: z.number(),
      Differences: z.optional(z.array(z.string())),
      Error: z.optional(z.string()),
    }),
  ),
});

type Verified = z.infer<typeof verified>;

/** Verifies images, and repairs them if asked to. The exit code is 1 if damage is left. */
export async function verifyImages(call: Arguments, terminal: Terminal): Promise<number> {
  const isAll = call.values.get('all') === true;
  if (isAll === call.rest.length > 0) throw fail.config('name the images to verify, or give --all');
  const isRepairing = call.values.get('repair') === true;
  const daemon = Daemon.of(call, terminal);
  const request: Call = { method: 'POST', query: isRepairing ? { repair: '1' } : {} };
  if (isRepairing) request.headers = await registryHeaders(terminal);
  const paths = isAll
    ? ['/images/verify']
    : call.rest.map((ref) => `/images/${encodeURIComponent(ref)}/verify`);
  const images: Verified[] = [];
  const isJson = call.values.get('json') === true;
  for (const path of paths) {
    for await (const image of imagesOf(daemon, path, request)) {
      images.push(image);
      if (!isJson) terminal.stdout.write(describe(image));
    }
  }
  if (isJson) terminal.stdout.write(`${JSON.stringify(images, undefined, 2)}\n`);
  return images.every(({ Layers }) => Layers.every(isWhole)) ? 0 : 1;
}

/** What could not be repaired is said layer by layer: the stream's own last word says no more. */
async function* imagesOf(daemon: Daemon, path: string, call: Call): AsyncGenerator<Verified> {
  let hasUnrepaired = false;
  try {
    for await (const { aux } of daemon.messages(path, call)) {
      if (aux === undefined) continue;
      const image = verified.safeParse(aux);
      if (!image.success) throw fail.daemon('the answer is not what was asked for: is it another engine?');
      hasUnrepaired ||= image.data.Layers.some(({ Error: error }) => error !== undefined);
      yield image.data;
    }
  } catch (cause) {
    if (!hasUnrepaired) throw cause;
  }
}

function describe({ Id, RepoTags, Layers }: Verified): string {
  const name = RepoTags[0] ?? '<none>';
  const rows = Layers.map(({ DiffID, State, Bytes, Differences = [], Error: error }) => {
    const [first = '', ...more] = Differences;
    const what = more.length === 0 ? first : `${first} (and ${more.length} more)`;
    return [
      '',
      short(DiffID),
      State,
      formatBytes(Bytes),
      error === undefined ? what : `${what}; not repaired: ${error}`,
    ];
  });
  return `${name} ${short(Id)}: ${Layers.every(isWhole) ? 'whole' : 'damaged'}\n${table(rows)}`;
}

function isWhole({ State }: { State: string }): boolean {
  return State === 'ok' || State === 'repaired';
}

function short(id: string): string {
  return id.replace(/^sha256:/, '').slice(0, 12);
}

/** As `docker build` sends them: every registry's credentials, by server. */
async function registryHeaders({ env }: Terminal): Promise<Record<string, string>> {
  const credentials = await readCredentials(env);
  if (Object.keys(credentials).length === 0) return {};
  return { 'x-registry-config': Buffer.from(JSON.stringify(credentials)).toString('base64url') };
}
