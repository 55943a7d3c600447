import { fail, messageOf } from '../errors.ts';
import type { Log } from '../lib/log.ts';
import { IptablesBackend } from './iptables.ts';
import { droppingTables, NftBackend } from './nft.ts';
import type { BridgeRules, FirewallBackend, PublishedPort, Ruleset } from './ruleset.ts';

export type BackendChoice = 'auto' | FirewallBackend['name'];

/** What neither nft nor iptables takes for anything else, such as a pattern. */
const INTERFACE_NAME = /^[\w.@-]{1,15}$/;

const openers = { nftables: NftBackend.open, iptables: IptablesBackend.open } as const;

/**
 * Our part of the host's firewall. Knows what it should hold, so that a change can fall back on making all of it
 * anew: that is how a table that another program has flushed comes back. Changes happen one after the other.
 */
export class Firewall implements AsyncDisposable {
  readonly #backend: FirewallBackend;
  readonly #log: Log;
  readonly #bridges = new Map<string, BridgeRules>();
  readonly #ports = new Map<string, PublishedPort>();
  /**
   * The kernel may hold something else than it should. So it does after a start: what the last daemon left stays in
   * force until it is known which of its ports are still in use.
   */
  #isStale = true;
  #tail: Promise<void> = Promise.resolve();

  private constructor(backend: FirewallBackend, log: Log) {
    this.#backend = backend;
    this.#log = log;
  }

  /** With `auto`, nftables, or iptables where the kernel or the machine has no nf_tables. */
  static async open({ backend, log }: { backend: BackendChoice; log: Log }): Promise<Firewall> {
    const opened = backend === 'auto' ? await firstThatWorks() : await openers[backend]();
    const tables = opened.name === 'nftables' ? await droppingTables() : [];
    if (tables.length > 0)
      log.warn({ tables }, 'another firewall drops what is forwarded to and from containers');
    return new Firewall(opened, log);
  }

  get backendName(): FirewallBackend['name'] {
    return this.#backend.name;
  }

  /** Adds or changes the rules of one bridge. They come into force with the next change, or with `settle`. */
  setBridge(bridge: BridgeRules): void {
    if (!INTERFACE_NAME.test(bridge.name)) throw fail.badRequest(`invalid bridge name: ${bridge.name}`);
    this.#bridges.set(bridge.name, bridge);
    this.#isStale = true;
  }

  /** Takes the rules of one bridge out, with the next change or with `settle`. One that has none is fine. */
  removeBridge(name: string): void {
    if (this.#bridges.delete(name)) this.#isStale = true;
  }

  /** Brings into force what is not yet. */
  async settle(): Promise<void> {
    await this.#alone(async () => {
      if (this.#isStale) await this.#restore();
    });
  }

  /** All or none of the ports. */
  async publish(ports: readonly PublishedPort[]): Promise<void> {
    if (ports.length === 0) return;
    await this.#alone(async () => {
      for (const port of ports) this.#ports.set(keyOf(port), port);
      try {
        await this.#change('publish', ports);
      } catch (cause) {
        for (const port of ports) this.#ports.delete(keyOf(port));
        throw cause;
      }
    });
  }

  /** Ports that are not published are fine. */
  async unpublish(ports: readonly PublishedPort[]): Promise<void> {
    const published = ports.filter((port) => this.#ports.has(keyOf(port)));
    if (published.length === 0) return;
    await this.#alone(async () => {
      for (const port of published) this.#ports.delete(keyOf(port));
      await this.#change('unpublish', published);
    });
  }

  /** Makes the kernel hold these ports, and all rules, whatever happened to them. */
  async restore(ports: readonly PublishedPort[]): Promise<void> {
    await this.#alone(async () => {
      this.#ports.clear();
      for (const port of ports) this.#ports.set(keyOf(port), port);
      await this.#restore();
    });
  }

  /** Takes everything of ours out of the kernel. */
  async remove(): Promise<void> {
    await this.#alone(() => this.#backend.remove());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#alone(async () => {
      await this.#backend[Symbol.asyncDispose]();
    });
  }

  async #change(kind: 'publish' | 'unpublish', ports: readonly PublishedPort[]): Promise<void> {
    if (this.#isStale) return this.#restore();
    try {
      await this.#backend[kind](ports, this.#rules());
    } catch (err) {
      this.#log.warn({ err, ports }, 'firewall rules were changed by others: making them anew');
      await this.#restore();
    }
  }

  async #restore(): Promise<void> {
    this.#isStale = true;
    await this.#backend.restore(this.#rules());
    this.#isStale = false;
  }

  #rules(): Ruleset {
    return { bridges: [...this.#bridges.values()], ports: [...this.#ports.values()] };
  }

  async #alone(change: () => Promise<void>): Promise<void> {
    const done = this.#tail.then(change);
    this.#tail = done.catch(() => {}); // the caller has the error
    await done;
  }
}

function keyOf({ protocol, hostIp, hostPort }: PublishedPort): string {
  return `${protocol}/${hostIp}:${hostPort}`;
}

async function firstThatWorks(): Promise<FirewallBackend> {
  const failures: string[] = [];
  for (const open of Object.values(openers)) {
    try {
      return await open();
    } catch (cause) {
      failures.push(messageOf(cause));
    }
  }
  throw fail.network(`no packet filter can be used: ${failures.join('; ')}`);
}
