import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { boxImage } from './box-image.ts';
import { type CliResult, TestEngine } from './engine.ts';
import { enterOwnNetwork } from './network.ts';
import { startRegistry, type TestRegistry } from './registry.ts';
import { push } from './registry-images.ts';

/** Fields of a create request in Docker's spelling. */
export interface Options {
  config?: Readonly<Record<string, unknown>>;
  hostConfig?: Readonly<Record<string, unknown>>;
}

/**
 * One engine on which options of containers are tried: what a container is given is looked at from inside of it, or at
 * its cgroup on the host, and never in what the engine says.
 */
export class OptionTable implements AsyncDisposable {
  readonly engine: TestEngine;
  readonly image: string;
  readonly #registry: TestRegistry;

  private constructor(engine: TestEngine, image: string, registry: TestRegistry) {
    this.engine = engine;
    this.image = image;
    this.#registry = registry;
  }

  static async open(o: { flags?: readonly string[] } = {}): Promise<OptionTable> {
    await enterOwnNetwork();
    const registry = await startRegistry();
    await push(registry.host, 'box', ['1'], await boxImage());
    const engine = await TestEngine.start({ flags: ['--default-runtime', 'runc', ...(o.flags ?? [])] });
    const image = `${registry.host}/box:1`;
    await engine.ok(['pull', '-q', image]);
    return new OptionTable(engine, image, registry);
  }

  /** Makes a container without a network that runs a command of the box's shell. Throws unless it was made. */
  async create(script: string, options: Options): Promise<{ id: string; warnings: string[] }> {
    const answer = await this.engine.json<{ Id: string; Warnings: string[] }>('/containers/create', {
      method: 'POST',
      body: this.#body(script, options),
    });
    return { id: answer.Id, warnings: answer.Warnings };
  }

  /** What creation answers that is not done: status and text. */
  async refusal(options: Options): Promise<string> {
    const body = this.#body('true', options);
    const { status, text } = await this.engine.get('/containers/create', { method: 'POST', body });
    assert.ok(status >= 400, `created: ${text}`);
    return `${status} ${JSON.parse(text).message}`;
  }

  /** What the start of a container answers that is made and cannot be run: status and text. */
  async failure(options: Options): Promise<string> {
    const { id } = await this.create('true', options);
    const { status, text } = await this.engine.get(`/containers/${id}/start`, { method: 'POST' });
    await this.remove(id);
    assert.ok(status >= 400, `started: ${text}`);
    return `${status} ${JSON.parse(text).message}`;
  }

  /** Runs a command to its end, in a container that is gone afterwards: what it printed. */
  async inside(script: string, options: Options): Promise<string> {
    const { code, stdout, stderr } = await this.run(script, options);
    assert.equal(code, 0, `exit ${code}: ${stdout}${stderr}`);
    return stdout.trimEnd();
  }

  async run(script: string, options: Options): Promise<CliResult> {
    const { id } = await this.create(script, options);
    const result = await this.engine.docker(['start', '-a', id]);
    await this.remove(id);
    return result;
  }

  /** A container that runs on until it is removed. */
  async running(options: Options = {}, name = ''): Promise<string> {
    const { id } = await this.create('sleep 1000', options);
    if (name !== '') await this.engine.json(`/containers/${id}/rename?name=${name}`, { method: 'POST' });
    await this.engine.json(`/containers/${id}/start`, { method: 'POST' });
    return id;
  }

  async remove(id: string): Promise<void> {
    await this.engine.get(`/containers/${id}?force=1&v=1`, { method: 'DELETE' });
  }

  /** Files of a running container's cgroup, by `controller/file`, as the host sees them. */
  async cgroup(
    files: readonly string[],
    options: Options,
    parent = this.engine.cgroupParent,
  ): Promise<string[]> {
    const id = await this.running(options);
    try {
      const at = (path: string) => {
        const [controller = '', file = ''] = path.split('/');
        return `/sys/fs/cgroup/${controller}${parent}/${id}/${file}`;
      };
      return await Promise.all(files.map(async (path) => (await readFile(at(path), 'utf8')).trim()));
    } finally {
      await this.remove(id);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.engine.clear();
    await this.engine.stop();
    const left = await this.engine.remains();
    await this.engine[Symbol.asyncDispose]();
    await this.#registry[Symbol.asyncDispose]();
    assert.deepEqual(left, []);
  }

  #body(script: string, { config, hostConfig }: Options): object {
    return {
      Image: this.image,
      Cmd: ['sh', '-c', script],
      ...config,
      HostConfig: { NetworkMode: 'none', ...hostConfig },
    };
  }
}
