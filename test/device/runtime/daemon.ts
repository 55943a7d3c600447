import { isMainThread } from 'node:worker_threads';
import { World } from './world.ts';

/**
 * A daemon for tests to kill: opens the world at the directory that it is given, brings up a container with the rest of
 * its arguments, attaches as a daemon with a client would, says the ID, and sits there.
 */
if (isMainThread && process.argv[2] !== undefined) {
  const [, , directory, hasStdin, ...args] = process.argv;
  const world = await World.open(directory);
  const spec = world.spec(args, { process: { hasStdin: hasStdin === 'stdin', isStdinOnce: false } });
  await world.runtime.create(spec);
  const attachment = await world.runtime.attach(spec.id);
  attachment.subscribe({ onOutput: () => undefined, onEnd() {} }, { maxBufferedBytes: 1 << 20 });
  await world.runtime.start(spec.id);
  process.stdout.write(`${spec.id}\n`);
  setInterval(() => {}, 1 << 30);
}
