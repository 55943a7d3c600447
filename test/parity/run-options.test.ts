import assert from 'node:assert/strict';
import { json } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { readCgroupLayout, removeCgroup } from '../../src/host/cgroup.ts';
import { openStream } from '../support/archives.ts';
import type { CliResult } from '../support/engine.ts';
import { allowed } from './allowed.ts';
import { differences, describe as inWords, partsOf, type Seen } from './differences.ts';
import { factsScript } from './facts.ts';
import { openPair, type Pair, type Side } from './pair.ts';
import { type RunOption, runOptions, type Words } from './run-options.ts';

/** Every option of `docker run` and `docker exec` does at this engine what it does at Debian's dockerd 20.10. */
let pair: Pair | undefined;
let reason = '';
const used = new Set<unknown>();

before(async () => {
  ({ pair, reason } = await openPair());
});

after(async () => {
  if (pair === undefined) return;
  await pair.engine.clear();
  await removeCgroup(await readCgroupLayout(), `${pair.skerry.cgroupParent}/deeper`); // left, as a user named it
  await pair.engine.stop();
  const left = await pair.engine.remains();
  await pair[Symbol.asyncDispose]();
  assert.deepEqual(left, []);
});

describe('as dockerd does it', { concurrency: 3 }, () => {
  for (const row of runOptions)
    test(row.name, async (t) => {
      if (pair === undefined) return t.skip(reason);
      const seen = await pair.both(async (side) => partsOf(side, await look(side, row)));
      const found = differences(seen).filter(
        (difference) =>
          !row.ignores?.includes(difference.part) &&
          !allowed.some((rule) => {
            const isIt =
              rule.part === difference.part &&
              rule.line.test(difference.line) &&
              (rule.row ?? row.name) === row.name;
            if (isIt) used.add(rule);
            return isIt;
          }),
      );
      assert.equal(found.length, 0, `- dockerd, + skerry:\n${inWords(found)}`);
    });
});

test('allowed differences that are none on this host', (t) => {
  if (pair === undefined) return t.skip(reason);
  for (const rule of allowed) if (!used.has(rule)) t.diagnostic(`${rule.part} ${rule.line}: ${rule.reason}`);
});

async function look(side: Side, row: RunOption): Promise<Seen> {
  const name = `p-${row.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}`;
  const docker = (words: Words, input?: string) =>
    side.docker(filled(wordsOf(words), side, name), input === undefined ? {} : { input });
  const results: CliResult[] = [];
  for (const words of row.before ?? []) results.push(await docker(words));
  const command = wordsOf(row.command ?? ['sh', '-c', `${row.script ?? ':'}\n${factsScript}`]);
  const network = row.hasNetwork ? [] : ['--network', 'none'];
  const run = ['run', '--name', name, ...network, ...wordsOf(row.args ?? '')];
  const image = row.image ?? 'box:1';
  if (row.exec === undefined) results.push(await docker([...run, image, ...command], row.input));
  else {
    await docker([...run, '-d', image, 'sleep', '1000']);
    results.push(await docker(['exec', ...wordsOf(row.exec), name, ...command], row.input));
  }
  for (const words of row.after ?? []) results.push(await docker(words));
  const inspect = await inspected(side, name);
  await cleanUp(side, name, row);
  return {
    code: results.map(({ code }) => code).join(' '),
    stdout: results.map(({ stdout }) => stdout).join(''),
    stderr: results.map(({ stderr }) => stderr).join(''),
    ...(inspect !== undefined && { inspect }),
  };
}

function wordsOf(words: Words): readonly string[] {
  return typeof words === 'string' ? words.split(' ').filter((word) => word !== '') : words;
}

function filled(words: readonly string[], side: Side, name: string): string[] {
  const values: Record<string, string> = { name, places: side.places, parent: side.cgroupParent };
  return words.map((word) => word.replaceAll(/\{(name|places|parent)\}/g, (_, key) => values[key] ?? ''));
}

async function inspected(side: Side, name: string): Promise<unknown> {
  const answer = await openStream(side.socket, `/v1.41/containers/${name}/json`);
  const said = await json(answer);
  return answer.statusCode === 200 ? said : undefined;
}

async function cleanUp(side: Side, name: string, row: RunOption): Promise<void> {
  const words = JSON.stringify(row);
  const peer = words.includes('{name}-peer') ? [`${name}-peer`] : [];
  await side.docker(['rm', '-f', '-v', name, ...peer]);
  if (words.includes('{name}-v')) await side.docker(['volume', 'rm', '-f', `${name}-v`]);
}
