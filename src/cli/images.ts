import * as z from 'zod/mini';
import { fail } from '../errors.ts';
import type { Arguments } from '../lib/arguments.ts';
import { humanDuration } from '../lib/human-duration.ts';
import { formatBytes } from '../lib/progress-bar.ts';
import { Daemon } from './daemon.ts';
import { table } from './table.ts';
import type { Terminal } from './terminal.ts';

const names = z.nullable(z.array(z.string()));
const imageList = z.array(
  z.object({ Id: z.string(), Created: z.number(), Size: z.number(), RepoTags: names, RepoDigests: names }),
);
const generationList = z.array(
  z.object({
    Name: z.string(),
    Id: z.string(),
    Since: z.string(),
    Generations: z.array(
      z.object({ Id: z.string(), Until: z.string(), Size: z.number(), Whole: z.boolean() }),
    ),
  }),
);
const rollback = z.object({ Name: z.string(), From: z.string(), To: z.string() });

/** The images, or what each tag stood for before. */
export async function listImages(call: Arguments, terminal: Terminal): Promise<number> {
  const daemon = Daemon.of(call, terminal);
  const isOfGenerations = call.values.get('generations') === true;
  const answer = await daemon.ask(isOfGenerations ? '/images/generations' : '/images/json');
  const print = isOfGenerations ? generationRows : imageRows;
  terminal.stdout.write(
    call.values.get('json') === true ? `${JSON.stringify(answer, undefined, 2)}\n` : table(print(answer)),
  );
  return 0;
}

/** Lets a tag stand for the image that it stood for before. */
export async function rollBack(call: Arguments, terminal: Terminal): Promise<number> {
  const [ref = ''] = call.rest;
  const to = call.values.get('to');
  const answer = await Daemon.of(call, terminal).ask(`/images/${encodeURIComponent(ref)}/rollback`, {
    method: 'POST',
    query: typeof to === 'string' ? { to } : {},
  });
  const { Name, From, To } = read(rollback, answer);
  terminal.stdout.write(
    call.values.get('json') === true
      ? `${JSON.stringify(answer)}\n`
      : `${Name}: ${short(To)} instead of ${short(From)}\n`,
  );
  return 0;
}

function imageRows(answer: unknown): string[][] {
  const rows = read(imageList, answer).flatMap(({ Id, Created, Size, RepoTags, RepoDigests }) => {
    const tags = RepoTags?.length ? RepoTags : [`${RepoDigests?.[0]?.replace(/@.*/, '') ?? '<none>'}:<none>`];
    return tags.map((tag) => {
      const colon = tag.lastIndexOf(':');
      const age = `${humanDuration(Date.now() - Created * 1000)} ago`;
      return [tag.slice(0, colon), tag.slice(colon + 1), short(Id), age, formatBytes(Size)];
    });
  });
  return [['REPOSITORY', 'TAG', 'IMAGE ID', 'CREATED', 'SIZE'], ...rows];
}

function generationRows(answer: unknown): string[][] {
  const ago = (time: string) => `${humanDuration(Date.now() - Date.parse(time))} ago`;
  const rows = read(generationList, answer).flatMap(({ Name, Id, Since, Generations }) => [
    [Name, short(Id), `current since ${ago(Since)}`, ''],
    ...Generations.map((each) => {
      const state = each.Whole ? `replaced ${ago(each.Until)}` : `damaged, replaced ${ago(each.Until)}`;
      return [Name, short(each.Id), state, formatBytes(each.Size)];
    }),
  ]);
  return [['NAME', 'IMAGE ID', 'STATE', 'SIZE'], ...rows];
}

function short(id: string): string {
  return id.replace(/^sha256:/, '').slice(0, 12);
}

function read<T>(schema: z.ZodMiniType<T>, answer: unknown): T {
  const found = z.safeParse(schema, answer);
  if (found.success) return found.data;
  throw fail.daemon('the answer is not what was asked for: is it another engine?');
}
