import { sectionsOf } from './facts.ts';
import type { Both, Side } from './pair.ts';

/** All that was seen of one command line at one engine. */
export interface Seen {
  /** Exit codes, of each command. */
  readonly code: string;
  readonly stdout: string;
  readonly stderr: string;
  /** What `docker inspect` says of the container afterwards, if there is one. */
  readonly inspect?: unknown;
}

/** A line that only one of the two has. */
export interface Difference {
  /** `exit`, `stderr`, `stdout`, `inspect`, or a section of the facts. */
  readonly part: string;
  readonly side: Side['name'];
  readonly line: string;
}

/** A difference that is meant. */
export interface Allowed {
  /** Where it is known from one row alone. */
  readonly row?: string;
  readonly part: string;
  readonly line: RegExp;
  readonly reason: string;
}

/** What only one of the two says, part by part, after what must differ was given the same name in both. */
export function differences(seen: Both<Map<string, string[]>>): Difference[] {
  const parts = new Set([...seen.dockerd.keys(), ...seen.skerry.keys()]);
  return [...parts].flatMap((part) => {
    const [theirs, ours] = [seen.dockerd.get(part) ?? [], seen.skerry.get(part) ?? []];
    return [
      ...without(theirs, ours).map((line) => ({ part, side: 'dockerd' as const, line })),
      ...without(ours, theirs).map((line) => ({ part, side: 'skerry' as const, line })),
    ];
  });
}

/** Lines by part. Names of the engine's own places, IDs, times and numbers that chance gives are the same in both. */
export function partsOf(side: Side, { code, stdout, stderr, inspect }: Seen): Map<string, string[]> {
  const id = (inspect as { Id?: string } | undefined)?.Id;
  const named = (text: string) => withCommonNames(side, id, text);
  const [said = [], ...facts] = [...sectionsOf(named(stdout))].map(([name, lines]) =>
    name === '' ? lines : ([name, lines.map((line) => normalFact(side, name, line))] as const),
  );
  return new Map<string, string[]>([
    ['exit', [code]],
    ['stdout', said as string[]],
    ['stderr', named(stderr).split('\n')],
    ...(facts as [string, string[]][]),
    [
      'inspect',
      inspect === undefined ? [] : flat('', inOrder(inspect)).map((line) => normalField(named(line))),
    ],
  ]);
}

/** For people: the differences of each part, dockerd's with a minus. */
export function describe(found: readonly Difference[]): string {
  return found
    .map(({ part, side, line }) => `  ${side === 'dockerd' ? '-' : '+'} ${part.padEnd(10)} ${line}`)
    .join('\n');
}

function without(lines: readonly string[], others: readonly string[]): string[] {
  const left = [...others];
  return lines.filter((line) => {
    const at = left.indexOf(line);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
}

function withCommonNames(side: Side, id: string | undefined, text: string): string {
  const named = id === undefined ? text : text.replaceAll(id, '<id>').replaceAll(id.slice(0, 12), '<short>');
  return named
    .replaceAll(side.places, '<dir>')
    .replaceAll(side.directory, '<dir>')
    .replaceAll(side.cgroupParent, '<parent>')
    .replace(/\b[0-9a-f]{64}\b/g, '<hex>')
    .replace(/\b172\.30\.0\.(?!0\b|1\b|255\b)\d+/g, '172.30.0.N')
    .replace(/\b02:42:ac:1e:00:..\b/g, '<mac>')
    .replace(/\b(?!0001)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)/g, '<time>');
}

function normalFact(side: Side, section: string, line: string): string {
  switch (section) {
    case 'mountinfo':
      return (
        line
          .replace(/\b(shared|master):\d+/g, '$1:N')
          // dockerd mounts its own root on itself, shared, where the host's is not
          .replace(/^(<dir>\/data\/volumes\/.*) master:N -/, '$1 -')
          .replace(/^\/ \/ (\S+) .*- overlay .*/, '/ / $1 - overlay')
          .replace(/^\S*\/(resolv\.conf|hostname|hosts) (\/etc\/)/, '<etc>/$1 $2')
      );
    case 'namespaces':
      return line.replace(/^(\w+):.*/, (all, kind) =>
        side.namespaces.get(kind) === all ? `${kind}: the host's` : `${kind}: of its own`,
      );
    case 'fds':
      return line.replace(/\[\d+\]/, '[N]');
    case 'status':
      // "all" are those that the kernel has; dockerd 20.10 does not know the three newest
      return line.replace(/^(Cap\w+:\t)(0000003f|000001ff)(?=[0-9a-f]{8}$)/, '$1<all> ');
    case 'first':
      return line.replace(/^ +(?!1 )\d+ /, 'N ');
    case 'network':
      return line.replace(/^\d+: /, '').replace(/@if\d+/, '');
    default:
      return line;
  }
}

/** Where order says nothing, and the command line or dockerd give none. */
function inOrder(inspect: unknown): unknown {
  const { Mounts, HostConfig, ...rest } = inspect as {
    Mounts?: { Destination: string }[];
    HostConfig?: { Binds?: string[] | null };
  };
  return {
    ...rest,
    HostConfig: { ...HostConfig, Binds: HostConfig?.Binds?.toSorted() ?? null },
    Mounts: Mounts?.toSorted((a, b) => (a.Destination < b.Destination ? -1 : 1)) ?? null,
  };
}

/** The command line puts variables in an order that chance gives. */
function normalField(line: string): string {
  return line.replace(/^Config\.Env\.\d+/, 'Config.Env').replace(/^State\.Pid: (?!0)\d+/, 'State.Pid: <pid>');
}

/** A line for each leaf of a JSON value, with its path. */
function flat(path: string, value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return [`${path}: ${JSON.stringify(value)}`];
  const entries = Object.entries(value);
  if (entries.length === 0) return [`${path}: ${Array.isArray(value) ? '[]' : '{}'}`];
  return entries.flatMap(([key, inner]) => flat(path === '' ? key : `${path}.${key}`, inner));
}
