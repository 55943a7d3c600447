import { fail, messageOf } from '../errors.ts';
import { run } from '../host/exec.ts';
import type { BridgeRules, FirewallBackend, PublishedPort, Ruleset } from './ruleset.ts';
import { formatSubnet } from './subnets.ts';

/** Waits for the lock of whoever else changes the tables. */
const WAIT_SECONDS = '10';

/** The user's own rules: looked at before ours, never emptied. */
const USER = 'SKERRY-USER';

/** Our chains, and the jumps that lead into them from the built-in ones, in the order they are looked at. */
const layout = {
  nat: {
    chains: ['SKERRY', 'SKERRY-POSTROUTING'],
    jumps: [
      '-A PREROUTING ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j SKERRY',
      '-A OUTPUT -m addrtype --dst-type LOCAL -j SKERRY',
      '-A POSTROUTING -j SKERRY-POSTROUTING',
    ],
  },
  filter: {
    chains: ['SKERRY-FORWARD', 'SKERRY-INPUT'],
    jumps: [`-A FORWARD -j ${USER}`, '-A FORWARD -j SKERRY-FORWARD', '-A INPUT -j SKERRY-INPUT'],
  },
} as const;

type TableName = keyof typeof layout;
const tables = Object.keys(layout) as TableName[];

/**
 * The rules as chains of our own in the tables of iptables, for kernels without nf_tables. Written by
 * `iptables-restore`, which replaces the chains of a table in one step and leaves all others alone.
 */
export class IptablesBackend implements FirewallBackend {
  readonly name = 'iptables';
  /** `iptables`, or `iptables-legacy` where the former is a shell over nf_tables and the kernel has none. */
  readonly #program: string;

  private constructor(program: string) {
    this.#program = program;
  }

  /** Throws if no variant of iptables works here. Changes nothing. */
  static async open(): Promise<IptablesBackend> {
    const failures: string[] = [];
    for (const program of ['iptables', 'iptables-legacy']) {
      try {
        await execute(program, ['-w', WAIT_SECONDS, '-t', 'nat', '-S', 'POSTROUTING']);
        return new IptablesBackend(program);
      } catch (cause) {
        failures.push(messageOf(cause));
      }
    }
    throw fail.network(failures.join('; '));
  }

  async restore(rules: Ruleset): Promise<void> {
    const before = await this.#rulesByTable();
    await this.#write(
      tables.map((table) => {
        const isUserMissing = table === 'filter' && !before[table].includes(`-N ${USER}`);
        const chains = [...layout[table].chains, ...(isUserMissing ? [USER] : [])];
        const jumps = insertions(layout[table].jumps, before[table]);
        return tableText(table, chains, [...jumps, ...rulesOf(table, rules)]);
      }),
    );
  }

  async publish(_ports: readonly PublishedPort[], rules: Ruleset): Promise<void> {
    // taking the jumps out fails if they are not in: a sign that others have flushed the table
    const jumps = layout.nat.jumps.flatMap((jump) => [undo(jump), insertion(jump)]);
    await this.#write([tableText('nat', ['SKERRY'], [...jumps, ...rules.ports.map(portRule)])]);
  }

  async unpublish(ports: readonly PublishedPort[], rules: Ruleset): Promise<void> {
    await this.publish(ports, rules);
  }

  async remove(): Promise<void> {
    const before = await this.#rulesByTable();
    await this.#write(
      tables.map((table) => {
        const own = [...layout[table].chains, USER].filter((chain) => before[table].includes(`-N ${chain}`));
        const jumps = layout[table].jumps.filter((jump) => before[table].includes(jump));
        // declaring a chain empties it, so that it can go
        const lines = [...jumps.map(undo), ...own.map((chain) => `-X ${chain}`)];
        return tableText(table, own, lines);
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  async #rulesByTable(): Promise<Record<TableName, string[]>> {
    const listed = tables.map(async (table) => {
      const text = await execute(this.#program, ['-w', WAIT_SECONDS, '-t', table, '-S']);
      return [table, text.split('\n')] as const;
    });
    return Object.fromEntries(await Promise.all(listed)) as Record<TableName, string[]>;
  }

  async #write(texts: readonly string[]): Promise<void> {
    await execute(`${this.#program}-restore`, ['-w', WAIT_SECONDS, '--noflush'], texts.join(''));
  }
}

async function execute(program: string, args: readonly string[], input?: string): Promise<string> {
  const options = { timeoutMs: 30_000, ...(input !== undefined && { input }) };
  const { code, stdout, stderr } = await run(program, args, options);
  if (code !== 0) throw fail.network(`${program}: ${stderr.trim()}`);
  return stdout;
}

function tableText(table: TableName, chains: readonly string[], lines: readonly string[]): string {
  const declared = chains.map((chain) => `:${chain} - [0:0]`);
  return `${[`*${table}`, ...declared, ...lines, 'COMMIT'].join('\n')}\n`;
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

/** All rules that our chains of one table hold. */
export function rulesOf(table: TableName, { bridges, ports }: Ruleset): string[] {
  return table === 'nat'
    ? [...ports.map(portRule), ...bridges.flatMap(sourceRules)]
    : [...bridges.map(inputRule), ...forwardRules(bridges)];
}

function portRule({ protocol, hostIp, hostPort, containerIp, containerPort }: PublishedPort): string {
  const address = hostIp === '0.0.0.0' ? '' : ` -d ${hostIp}`;
  const target = `${containerIp}:${containerPort}`;
  return `-A SKERRY${address} -p ${protocol} -m ${protocol} --dport ${hostPort} -j DNAT --to-destination ${target}`;
}

function sourceRules({ name, subnet, isMasquerade }: BridgeRules): string[] {
  const own = formatSubnet(subnet);
  const chain = '-A SKERRY-POSTROUTING';
  return [
    // a client on the host's loopback or on the bridge itself: the answer must come back through the host
    ...['127.0.0.0/8', own].map(
      (source) => `${chain} -s ${source} -o ${name} -m conntrack --ctstate DNAT -j MASQUERADE`,
    ),
    ...(isMasquerade ? [`${chain} -s ${own} ! -o ${name} -j MASQUERADE`] : []),
  ];
}

/** The bridge has route_localnet, for published ports on loopback: containers must not reach the host's by it. */
function inputRule({ name }: BridgeRules): string {
  return `-A SKERRY-INPUT -i ${name} -d 127.0.0.0/8 -m conntrack --ctstate NEW,INVALID -j DROP`;
}

/** Unlike in a table of our own, ours must accept what may pass: the built-in chain may well drop the rest. */
function forwardRules(bridges: readonly BridgeRules[]): string[] {
  const chain = '-A SKERRY-FORWARD';
  const into = bridges.flatMap(({ name, isIcc }) => [
    `${chain} -o ${name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
    `${chain} -o ${name} -m conntrack --ctstate DNAT -j ACCEPT`,
    ...(isIcc ? [`${chain} -i ${name} -o ${name} -j ACCEPT`] : []),
    `${chain} -o ${name} -j DROP`,
  ]);
  return [...into, ...bridges.map(({ name }) => `${chain} -i ${name} -j ACCEPT`)];
}
