import { release } from '../config/release.ts';
import type { Arguments } from '../lib/arguments.ts';
import type { Terminal } from './terminal.ts';

/** The version of this program and of the Node that runs it. */
export async function showVersion({ values }: Arguments, { stdout }: Terminal): Promise<number> {
  const facts = { ...release, node: process.version };
  stdout.write(
    values.get('json') === true
      ? `${JSON.stringify(facts)}\n`
      : `skerry version ${facts.version}, build ${facts.commit}, Node ${facts.node}\n`,
  );
  return 0;
}
