import { ask, serve } from './talk.ts';

/** A party in a network namespace of its own: does what its parent says, over Node's channel between processes. */

const tasks = { ask, serve } as const;

type Order = { id: number; task: keyof typeof tasks; args: unknown[] };

process.on('message', async ({ id, task, args }: Order) => {
  const answer = await (tasks[task] as (...args: unknown[]) => Promise<unknown>)(...args);
  process.send?.({ id, answer: task === 'ask' ? answer : 'done' });
});
process.on('disconnect', () => process.exit(0));
process.send?.({ id: -1 });
