import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { silentLog } from '../../../src/lib/log.ts';
import { Bundle, bundlesOf, type ProcessId, processId, type RunFacts } from '../../../src/runtime/bundle.ts';
import { type ContainerExit, Exits } from '../../../src/runtime/exits.ts';

/** An exec root, and processes that stand for containers and their monitors. */
class World {
  readonly root: string;
  readonly exits: Exits;
  readonly #processes: ChildProcess[] = [];

  constructor(t: TestContext) {
    this.root = mkdtempSync(join(tmpdir(), 'skt-exits-'));
    mkdirSync(bundlesOf(this.root));
    this.exits = Exits.open(this.root, silentLog);
    t.after(() => {
      this.exits[Symbol.dispose]();
      for (const process of this.#processes) process.kill('SIGKILL');
      rmSync(this.root, { recursive: true });
    });
  }

  process(): ProcessId & { end(): Promise<void> } {
    const child = spawn('sleep', ['60'], { stdio: 'ignore' });
    this.#processes.push(child);
    const id = processId(child.pid ?? 0);
    return {
      ...id,
      end: async () => {
        child.kill('SIGKILL');
        if (child.signalCode === null) await new Promise((resolve) => child.once('exit', resolve));
      },
    };
  }

  run(id: string, container: ProcessId, monitor: ProcessId): [Bundle, RunFacts] {
    const bundle = new Bundle(this.root, id);
    const facts = {
      runtime: 'runc',
      cgroup: '/x',
      command: 'sh',
      hasStdin: false,
      keepsStdinOpen: true,
      log: { kind: 'none' as const },
      container,
      monitor,
    };
    bundle.make(facts, {});
    return [bundle, facts];
  }

  /** As conmon does it. */
  writeExit(id: string, text: string): void {
    const temporary = join(this.exits.directory, `.${id}.tmp`);
    writeFileSync(temporary, text);
    renameSync(temporary, join(this.exits.directory, id));
  }
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition() && tries < 300; tries++) await sleep(10);
  assert.ok(condition());
}

test('an exit file is told once, with its code, time and OOM mark', async (t) => {
  const world = new World(t);
  const heard: ContainerExit[] = [];
  world.exits.onExit((exit) => heard.push(exit));
  const [bundle, facts] = world.run('c1', world.process(), world.process());
  world.exits.watch(bundle, facts);
  writeFileSync(bundle.path('oom'), '');
  world.writeExit('c1', '137');
  utimesSync(join(world.exits.directory, 'c1'), 1_795_208_105.5, 1_795_208_105.5);
  await until(() => heard.length > 0);
  world.writeExit('c1', '137');
  await sleep(50);
  assert.equal(heard.length, 1);
  const { at, ...exit } = heard[0] ?? { at: '' };
  assert.deepEqual(exit, { id: 'c1', exitCode: 137, wasOomKilled: true, isKnown: true });
  assert.match(at, /^20\d\d-\d\d-\d\dT[\d:.]+Z$/);
});

test('what ends before there is a listener is told to the first one', async (t) => {
  const world = new World(t);
  const [bundle, facts] = world.run('c1', world.process(), world.process());
  world.writeExit('c1', '3');
  world.exits.watch(bundle, facts);
  const heard: number[] = [];
  world.exits.onExit(({ exitCode }) => heard.push(exitCode));
  assert.equal(heard.length, 0);
  await until(() => heard.length > 0);
  world.exits.onExit(({ exitCode }) => heard.push(exitCode));
  await sleep(20);
  assert.deepEqual(heard, [3]);
});

test('a killed monitor: the exit is unknown, and told only once the process is gone', async (t) => {
  const world = new World(t);
  const heard: ContainerExit[] = [];
  world.exits.onExit((exit) => heard.push(exit));
  const [container, monitor] = [world.process(), world.process()];
  const [bundle, facts] = world.run('c1', container, monitor);
  world.exits.watch(bundle, facts);
  await monitor.end();
  await sleep(1500);
  assert.equal(heard.length, 0);
  assert.equal(await world.exits.of(bundle, facts), undefined);
  await container.end();
  await until(() => heard.length > 0);
  const { exitCode, isKnown } = heard[0] ?? {};
  assert.deepEqual([exitCode, isKnown], [137, false]);
  assert.equal((await world.exits.of(bundle, facts))?.isKnown, false);
});

test('a reused pid is not taken for the old process', async (t) => {
  const world = new World(t);
  const { pid, startTicks = 0 } = world.process();
  const stranger = { pid, startTicks: startTicks + 1 };
  const [bundle, facts] = world.run('c1', stranger, stranger);
  assert.equal((await world.exits.of(bundle, facts))?.isKnown, false);
});

test('an exit that is about to be written is waited for', async (t) => {
  const world = new World(t);
  const [container, monitor] = [world.process(), world.process()];
  await container.end();
  const [bundle, facts] = world.run('c1', container, monitor);
  setTimeout(() => world.writeExit('c1', '7'), 60);
  assert.equal((await world.exits.of(bundle, facts))?.exitCode, 7);
});

test('what is forgotten is not told, and leaves no file', async (t) => {
  const world = new World(t);
  const heard: ContainerExit[] = [];
  world.exits.onExit((exit) => heard.push(exit));
  const [bundle, facts] = world.run('c1', world.process(), world.process());
  world.exits.watch(bundle, facts);
  world.exits.forget(bundle);
  world.writeExit('c1', '0');
  await sleep(50);
  world.exits.forget(bundle);
  assert.equal(heard.length, 0);
  assert.equal(await world.exits.of(bundle, facts), undefined);
});
