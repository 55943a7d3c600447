import { readFileSync } from 'node:fs';
import * as z from 'zod/mini';
import genericAarch64 from '../../boards/generic-aarch64.json' with { type: 'json' };
import genericAmd64 from '../../boards/generic-amd64.json' with { type: 'json' };
import genericArmv7 from '../../boards/generic-armv7.json' with { type: 'json' };
import intelNuc from '../../boards/intel-nuc.json' with { type: 'json' };
import jetsonNano from '../../boards/jetson-nano.json' with { type: 'json' };
import jetsonOrinNano from '../../boards/jetson-orin-nano.json' with { type: 'json' };
import raspberrypiZero2W from '../../boards/raspberrypi-zero2-w.json' with { type: 'json' };
import raspberrypi3 from '../../boards/raspberrypi3-64.json' with { type: 'json' };
import raspberrypi4 from '../../boards/raspberrypi4-64.json' with { type: 'json' };
import raspberrypi5 from '../../boards/raspberrypi5.json' with { type: 'json' };
import { codeOf, fail, messageOf } from '../errors.ts';
import { complaintsOf } from './complaints.ts';

const bytes = (least: number, most: number) => z.int().check(z.minimum(least), z.maximum(most));
const count = (most: number) => z.int().check(z.minimum(1), z.maximum(most));
const KiB = 1024;
const MiB = 1024 * KiB;

/** What a board is, how it is recognised, and the sizes that follow from it. The files are `boards/*.json`. */
const boardSchema = z.strictObject({
  name: z.string().check(z.regex(/^[a-z0-9][a-z0-9-]{1,40}$/)),
  title: z.string(),
  /** Go's name. */
  architecture: z.enum(['amd64', 'arm64', 'arm']),
  /** Of 32-bit ARM: the least that the profile needs. */
  variant: z.optional(z.enum(['v7'])),
  /** 1: Node 24, part of every release's tests. 2: Node 20, built and started only. */
  tier: z.union([z.literal(1), z.literal(2)]),
  /** The smallest memory that the board is sold with, or that a generic machine is assumed to have. */
  ramClass: z.enum(['512M', '1G', '2G', '4G', '8G']),
  /** What `data-root` usually lies on. */
  flash: z.enum(['sd', 'emmc', 'ssd', 'nvme']),
  /** Beginnings of the machine's own name: the longest that fits wins. A profile without any is its architecture's generic one. */
  detect: z.strictObject({ deviceTree: z.array(z.string()), dmi: z.array(z.string()) }),
  /** LevelDB's sizes. */
  store: z.strictObject({
    cacheBytes: bytes(256 * KiB, 64 * MiB),
    writeBufferBytes: bytes(256 * KiB, 16 * MiB),
    blockBytes: bytes(4 * KiB, 64 * KiB),
    fileBytes: bytes(MiB, 64 * MiB),
  }),
  /** Layers fetched and unpacked at the same time. */
  pull: z.strictObject({ parallelDownloads: count(16), parallelExtractions: count(16) }),
  /** Limits of each container's log. */
  logs: z.strictObject({ maxBytes: bytes(16 * KiB, 1024 * MiB), maxFiles: count(100) }),
  /** V8's limits in the daemon and its children, in MiB. */
  heap: z.strictObject({ oldSpaceMb: bytes(48, 4096), semiSpaceMb: count(64) }),
  /** Why these figures: for `skerry board show`, and for whoever adds a board. */
  why: z.strictObject({ store: z.string(), pull: z.string(), logs: z.string(), heap: z.string() }),
});

/** One board profile. */
export type BoardProfile = z.output<typeof boardSchema>;

/** What a board is recognised by. */
export interface Machine {
  /** Go's name: `amd64`, `arm64`, `arm`. */
  readonly architecture: string;
  /** `/proc/device-tree/model` of ARM boards, without its closing zero. */
  readonly deviceTreeModel?: string | undefined;
  /** The DMI product name of x86 machines. */
  readonly dmiProduct?: string | undefined;
}

/** A profile that was found, and by what. */
export interface Detection {
  readonly board: BoardProfile;
  readonly reason: string;
}

/** Every profile that is built in, the generic ones first. */
export function boards(): BoardProfile[] {
  return [
    genericAmd64,
    genericAarch64,
    genericArmv7,
    raspberrypiZero2W,
    raspberrypi3,
    raspberrypi4,
    raspberrypi5,
    jetsonNano,
    jetsonOrinNano,
    intelNuc,
  ].map((profile) => parseBoard(profile, profile.name));
}

/** The profile of that name, or in the file of that path; undefined if there is no such name. Throws on a bad file. */
export function findBoard(nameOrPath: string): BoardProfile | undefined {
  if (!nameOrPath.includes('/')) return boards().find(({ name }) => name === nameOrPath);
  try {
    return parseBoard(JSON.parse(readFileSync(nameOrPath, 'utf8')), nameOrPath);
  } catch (cause) {
    if (codeOf(cause) === 'CONFIG') throw cause;
    throw fail.config(`board profile ${nameOrPath}: ${messageOf(cause)}`);
  }
}

/** The profile that fits the machine best; its architecture's generic one if it is no board we know. */
export function detectBoard(machine: Machine): Detection {
  const fitting = boards().filter(({ architecture }) => architecture === machine.architecture);
  let best: (Detection & { length: number }) | undefined;
  for (const board of fitting) {
    for (const [source, model, beginnings] of [
      ['device tree model', machine.deviceTreeModel, board.detect.deviceTree],
      ['DMI product', machine.dmiProduct, board.detect.dmi],
    ] as const) {
      for (const { length } of beginnings.filter((beginning) => model?.startsWith(beginning))) {
        if (length > (best?.length ?? 0)) best = { board, reason: `${source} "${model}"`, length };
      }
    }
  }
  if (best !== undefined) return { board: best.board, reason: best.reason };
  const generic = fitting.find(({ detect }) => detect.deviceTree.length + detect.dmi.length === 0);
  if (generic === undefined) {
    throw fail.config(`no board profile is made for ${machine.architecture}: name one with --board`);
  }
  const known = machine.deviceTreeModel ?? machine.dmiProduct;
  return { board: generic, reason: known === undefined ? 'no model name' : `no profile for "${known}"` };
}

/** Node's flags for the daemon on this board. */
export function nodeFlags({ heap }: BoardProfile): string[] {
  return [
    `--max-old-space-size=${heap.oldSpaceMb}`,
    `--max-semi-space-size=${heap.semiSpaceMb}`,
    '--optimize-for-size',
    '--expose-gc', // see lib/discarded.ts
    // measured: starting takes 20 ms longer, and the idle daemon is 4 MB smaller
    '--no-node-snapshot',
  ];
}

function parseBoard(profile: unknown, origin: string): BoardProfile {
  const parsed = z.safeParse(boardSchema, profile);
  if (parsed.success) return parsed.data;
  const complaint = complaintsOf(parsed.error, profile)
    .map(({ path, message }) => `${path}: ${message}`)
    .join('; ');
  throw fail.config(`board profile ${origin}: ${complaint}`);
}
