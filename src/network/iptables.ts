import { fail, messageOf } from '../errors.ts';
import { run } from '../host/exec.ts';
import {
  jumpsOf,
  ownChains,
  portRule,
  rulesOf,
  type TableName,
  tables,
  tableText,
  USER,
} from './iptables-text.ts';
import {
  type FirewallBackend,
  families,
  familyOf,
  ofFamily,
  type PublishedPort,
  type Ruleset,
} from './ruleset.ts';
import type { Family } from './subnets.ts';

/** Waits for the lock of whoever else changes the tables. */
const WAIT_SECONDS = '10';

/**
 * `iptables`, or `iptables-legacy` where the former is a shell over nf_tables and the kernel has none; IPv6's is
 * then the one of the same kind.
 */
const programs = [
  { 4: 'iptables', 6: 'ip6tables' },
  { 4: 'iptables-legacy', 6: 'ip6tables-legacy' },
] as const;

type RulesByTable = Record<TableName, string[]>;

/**
 * The rules as chains of our own in the tables of iptables and ip6tables, for kernels without nf_tables. Written by
 * `iptables-restore`, which replaces the chains of a table in one step and leaves all others alone.
 */
export class IptablesBackend implements FirewallBackend {
  readonly name = 'iptables';
  readonly #programs: Readonly<Record<Family, string>>;
  /** Unknown until first asked: whether IPv6's tables hold chains of ours. */
  #hasIpv6: boolean | undefined;

  private constructor(ofFamilies: Readonly<Record<Family, string>>) {
    this.#programs = ofFamilies;
  }

  /** Throws if no variant of iptables works here. Changes nothing. */
  static async open(): Promise<IptablesBackend> {
    const failures: string[] = [];
    for (const pair of programs) {
      try {
        await execute(pair[4], ['-w', WAIT_SECONDS, '-t', 'nat', '-S', 'POSTROUTING']);
        return new IptablesBackend(pair);
      } catch (cause) {
        failures.push(messageOf(cause));
      }
    }
    throw fail.network(failures.join('; '));
  }

  async restore(rules: Ruleset): Promise<void> {
    for (const family of await this.#familiesFor(rules)) {
      const before = await this.#rulesByTable(family);
      const own = ofFamily(rules, family);
      await this.#write(
        family,
        tables.map((table) => {
          const isUserMissing = table === 'filter' && !before[table].includes(`-N ${USER}`);
          const chains = [...ownChains[table], ...(isUserMissing ? [USER] : [])];
          const jumps = insertions(jumpsOf(table, family), before[table]);
          return tableText(table, chains, [...jumps, ...rulesOf(table, family, own)]);
        }),
      );
      if (family === 6) this.#hasIpv6 = true;
    }
  }

  async publish(changed: readonly PublishedPort[], rules: Ruleset): Promise<void> {
    for (const family of families) {
      if (!changed.some((port) => familyOf(port) === family)) continue;
      // taking the jumps out fails if they are not in: a sign that others have flushed the table
      const jumps = jumpsOf('nat', family).flatMap((jump) => [undo(jump), insertion(jump)]);
      const ports = ofFamily(rules, family).ports.map(portRule);
      await this.#write(family, [tableText('nat', ['SKERRY'], [...jumps, ...ports])]);
    }
  }

  async unpublish(ports: readonly PublishedPort[], rules: Ruleset): Promise<void> {
    await this.publish(ports, rules);
  }

  async remove(): Promise<void> {
    for (const family of await this.#familiesFor({ bridges: [], ports: [] })) {
      const before = await this.#rulesByTable(family);
      await this.#write(
        family,
        tables.map((table) => {
          const removable = [...ownChains[table], ...(isUserChainUnused(before[table]) ? [USER] : [])];
          const chains = removable.filter((chain) => before[table].includes(`-N ${chain}`));
          const jumps = jumpsOf(table, family).filter(
            (jump) => before[table].includes(jump) && chains.some((chain) => jump.endsWith(` ${chain}`)),
          );
          // declaring a chain empties it, so that it can go
          return tableText(table, chains, [...jumps.map(undo), ...chains.map((chain) => `-X ${chain}`)]);
        }),
      );
    }
    this.#hasIpv6 = false;
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  /** IPv6 only where there is something to say about it: many boards have none, or no tables for it. */
  async #familiesFor(rules: Ruleset): Promise<Family[]> {
    const { bridges, ports } = ofFamily(rules, 6);
    const isNeeded = bridges.length > 0 || ports.length > 0 || (await this.#isIpv6There());
    return families.filter((family) => family === 4 || isNeeded);
  }

  async #isIpv6There(): Promise<boolean> {
    this.#hasIpv6 ??= await execute(this.#programs[6], [
      '-w',
      WAIT_SECONDS,
      '-t',
      'nat',
      '-S',
      'SKERRY',
    ]).then(
      () => true,
      () => false,
    );
    return this.#hasIpv6;
  }

  async #rulesByTable(family: Family): Promise<RulesByTable> {
    const list = async (table: TableName) => {
      const text = await execute(this.#programs[family], ['-w', WAIT_SECONDS, '-t', table, '-S']);
      return text.split('\n');
    };
    const [nat, filter] = await Promise.all([list('nat'), list('filter')]);
    return { nat, filter };
  }

  async #write(family: Family, texts: readonly string[]): Promise<void> {
    await execute(`${this.#programs[family]}-restore`, ['-w', WAIT_SECONDS, '--noflush'], texts.join(''));
  }
}

async function execute(program: string, args: readonly string[], input?: string): Promise<string> {
  const options = { timeoutMs: 30_000, ...(input !== undefined && { input }) };
  const { code, stdout, stderr } = await run(program, args, options);
  if (code !== 0) throw fail.network(`${program}: ${stderr.trim()}`);
  return stdout;
}

/** Neither the user nor a dockerd on this machine has put anything in. */
function isUserChainUnused(present: readonly string[]): boolean {
  return !present.some((rule) => rule.startsWith(`-A ${USER} `));
}

/** The jumps that are missing, to be put in front; if one is, all are, so that their order is right. */
function insertions(jumps: readonly string[], present: readonly string[]): string[] {
  if (jumps.every((jump) => present.includes(jump))) return [];
  const stale = jumps.filter((jump) => present.includes(jump)).map(undo);
  return [...stale, ...jumps.toReversed().map(insertion)];
}

function undo(jump: string): string {
  return jump.replace(/^-A/, '-D');
}

/** In front of other rules, because those often end with "everything else: reject". */
function insertion(jump: string): string {
  return jump.replace(/^-A/, '-I');
}
