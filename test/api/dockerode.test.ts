import assert from 'node:assert/strict';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import test, { type TestContext } from 'node:test';
import Docker from 'dockerode';
import type { ClientStreams } from '../../src/api/session.ts';
import { frame } from '../../src/lib/frames.ts';
import { type Changes, ID } from './fake-engine.ts';
import { world } from './world.ts';

async function connect(t: TestContext, engine: Changes): Promise<Docker> {
  const { socket } = await world(t, { engine });
  return new Docker({ socketPath: socket });
}

/** A process that says what it hears on stdout, and how much on stderr. */
const pump = async ({ input, output, isFramed }: ClientStreams) => {
  for await (const chunk of input as AsyncIterable<Buffer>) {
    output.write(isFramed ? frame(1, chunk) : chunk);
    if (isFramed) output.write(frame(2, Buffer.from(String(chunk.length))));
  }
};
const session = async (_: string, o: object) => ({ isTty: 'isTty' in o && o.isTty === true, pump });

test('dockerode attaches with its options in a body, which is not stdin', async (t) => {
  const docker = await connect(t, { io: { attach: session } });
  const stream = await docker
    .getContainer('web')
    .attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
  const [out, err] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, out, err);
  stream.end('hello');
  await once(stream, 'end');
  out.end();
  err.end();
  assert.deepEqual([await text(out), await text(err)], ['hello', '5']);
});

test('dockerode runs an exec with a terminal', async (t) => {
  const docker = await connect(t, { execs: { start: session } });
  const exec = await docker.getContainer('web').exec({ Cmd: ['cat'], Tty: true, AttachStdin: true });
  assert.equal(exec.id.length, 64);
  const stream = await exec.start({ hijack: true, stdin: true, Tty: true });
  stream.end('typed');
  assert.equal(await text(stream), 'typed');
});

test('dockerode follows a pull and reads its error', async (t) => {
  const docker = await connect(t, {
    pulls: {
      pull: async ({ auth }, { progress }) => {
        progress({ status: `Pulling for ${auth?.username}` });
        progress({ errorDetail: { message: 'broken' }, error: 'broken' });
      },
    },
  });
  const stream = await docker.pull('debian:12', { authconfig: { username: 'u', password: 'p' } });
  const seen = await new Promise<{ status?: string; error?: string }[]>((resolve) => {
    docker.modem.followProgress(stream, (_, messages) => resolve(messages));
  });
  assert.deepEqual(
    seen.map(({ status, error }) => status ?? error),
    ['Pulling for u', 'broken'],
  );
});

test('dockerode reads inspect, lists, logs and events', async (t) => {
  const actor = { id: ID, attributes: { image: 'debian' } };
  const docker = await connect(t, {
    io: {
      logs: async () => ({
        isTty: false,
        attributes: new Map(),
        lines: (async function* () {
          yield { stream: 1 as const, timeNanos: 0n, data: Buffer.from('line\n') };
        })(),
      }),
    },
    events: {
      async *subscribe() {
        yield { type: 'container', action: 'die', actor, timeNanos: 1n, scope: 'local' };
      },
    },
  });
  assert.equal((await docker.getContainer('web').inspect()).Name, '/web');
  assert.equal((await docker.listContainers({ filters: { label: ['a=b'] } })).length, 1);
  assert.equal((await docker.listImages())[0]?.RepoTags?.[0], 'debian:12');
  const log = await docker.getContainer('web').logs({ stdout: true, follow: false });
  assert.deepEqual(log, frame(1, Buffer.from('line\n')));
  const events = await docker.getEvents({ filters: { type: ['container'] } });
  assert.partialDeepStrictEqual(JSON.parse(await text(events)), { status: 'die', id: ID, Type: 'container' });
});
