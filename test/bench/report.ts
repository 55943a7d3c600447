import type { ImageFacts } from './bench-image.ts';
import { type Measures, median } from './measures.ts';

/** All rounds of one engine. */
export interface Outcome {
  name: string;
  version: string;
  rounds: Measures[];
}

/** Everything a bench found out; what --json prints. */
export interface Findings {
  takenAt: string;
  machine: string;
  /** The load average of one minute, before the first round and after the last. */
  load: [number, number];
  image: ImageFacts;
  /** What GNU tar writes to the disk for the same layers. */
  leastWrittenBytes: number;
  outcomes: Outcome[];
}

type Unit = 'ms' | 's' | 'MB' | '/s' | '×';

/** The rows, in order; `isMoreBetter` where a higher number wins. */
const rows: readonly { label: string; key: keyof Measures; unit: Unit; isMoreBetter?: true }[] = [
  { label: 'start to first `/_ping`', key: 'startSeconds', unit: 'ms' },
  { label: 'idle, 5 s after start: RSS', key: 'idleRssBytes', unit: 'MB' },
  { label: 'idle: PSS', key: 'idlePssBytes', unit: 'MB' },
  { label: 'idle: anonymous', key: 'idleAnonymousBytes', unit: 'MB' },
  { label: 'pull: wall', key: 'pullSeconds', unit: 's' },
  { label: 'pull: CPU', key: 'pullCpuSeconds', unit: 's' },
  { label: 'pull: peak RSS', key: 'pullPeakRssBytes', unit: 'MB' },
  { label: 'pull: peak PSS', key: 'pullPeakPssBytes', unit: 'MB' },
  {
    label: 'pull: peak anonymous, as the memory cgroup counts it',
    key: 'pullPeakAnonymousBytes',
    unit: 'MB',
  },
  { label: 'pull: written to the disk', key: 'pullWrittenBytes', unit: 'MB' },
  { label: 'pull: written per uncompressed byte', key: 'writtenPerUncompressed', unit: '×' },
  { label: '`docker run --rm --net none IMG true`', key: 'runWithoutNetworkSeconds', unit: 'ms' },
  { label: '`docker run --rm IMG true` (bridge)', key: 'runWithBridgeSeconds', unit: 'ms' },
  { label: '`docker exec C true`', key: 'execSeconds', unit: 'ms' },
  { label: 'create + start + wait + remove', key: 'containersPerSecond', unit: '/s', isMoreBetter: true },
  { label: '`GET /containers/json`, 10 containers', key: 'listsPerSecond', unit: '/s', isMoreBetter: true },
  { label: 'one more container: RSS of what watches it', key: 'containerRssBytes', unit: 'MB' },
  { label: 'one more container: PSS of that', key: 'containerPssBytes', unit: 'MB' },
  { label: 'idle again after all of this: RSS', key: 'afterwardsRssBytes', unit: 'MB' },
];

/** A Markdown table of medians. With two engines, a third column says how many times better the first one is. */
export function markdown(findings: Findings): string {
  const { takenAt, machine, load, image, outcomes } = findings;
  const [first, second] = outcomes;
  const isDuel = first !== undefined && second !== undefined;
  const heads = [
    '',
    ...outcomes.map(({ version }) => version),
    ...(isDuel ? [`${first.name} is better by`] : []),
  ];
  const lines = rows.map(({ label, key, unit, isMoreBetter }) => {
    const values = outcomes.map(({ rounds }) => median(rounds.map((round) => round[key])));
    const [mine = 0, theirs = 0] = values;
    const ratio = isMoreBetter ? mine / theirs : theirs / mine;
    return [
      label,
      ...values.map((value) => format(value, unit)),
      ...(isDuel ? [`${ratio.toFixed(2)} ×`] : []),
    ];
  });
  return [
    `${takenAt.slice(0, 10)}, ${machine}, load average ${load.map((each) => each.toFixed(1)).join(' → ')}.`,
    `Medians of ${first?.rounds.length ?? 0} rounds, engines taking turns, each round on an empty disk.`,
    `The image: ${image.blobs.length} gzip layers, ${image.files} entries, ${mega(image.compressedBytes)} MB to download, ` +
      `${mega(image.tarBytes)} MB of tar, ${mega(image.fileBytes)} MB of file contents.`,
    `GNU tar, with a sync after each layer, writes ${mega(findings.leastWrittenBytes)} MB for it, ` +
      `${(findings.leastWrittenBytes / image.tarBytes).toFixed(3)} × its tar: blocks, inodes and journal of ext4.`,
    '',
    row(heads),
    row(heads.map((_, index) => (index === 0 ? '---' : '--:'))),
    ...lines.map(row),
  ].join('\n');
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`;
}

function format(value: number, unit: Unit): string {
  switch (unit) {
    case 'ms':
      return `${(value * 1000).toFixed(0)} ms`;
    case 's':
      return `${value.toFixed(2)} s`;
    case 'MB':
      return `${value < 10e6 ? (value / 1e6).toFixed(2) : mega(value)} MB`;
    case '/s':
      return `${value < 100 ? value.toFixed(1) : value.toFixed(0)} /s`;
    case '×':
      return `${value.toFixed(3)} ×`;
  }
}

function mega(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}
