import { lstat, readdir, readFile, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import * as z from 'zod/mini';
import { fail, messageOf } from '../errors.ts';
import { deviceNumber } from '../host/device-nodes.ts';
import { isAbsence } from '../host/files.ts';
import { parseYaml } from '../lib/yaml.ts';
import type { BundleMount, OciDevice, OciHook } from './spec.ts';

/** What devices do to a container: CDI's container edits (Container Device Interface 1.0, SPEC.md). */
export interface DeviceEdits {
  env: string[];
  devices: OciDevice[];
  mounts: BundleMount[];
  /** By the moment at which they run. */
  hooks: Record<string, OciHook[]>;
  additionalGids: number[];
}

/** Larger than any honest file. */
const MAX_FILE_BYTES = 8 << 20;

const hookNames = [
  'prestart',
  'createRuntime',
  'createContainer',
  'startContainer',
  'poststart',
  'poststop',
] as const;
const path = z.string().check(z.minLength(1));
const envs = z.optional(z.array(z.string().check(z.regex(/^[^=]+=/))));

const editsShape = z.strictObject({
  env: envs,
  deviceNodes: z.optional(
    z.array(
      z.strictObject({
        path,
        hostPath: z.optional(path),
        type: z.optional(z.enum(['b', 'c', 'u', 'p'])),
        major: z.optional(z.int()),
        minor: z.optional(z.int()),
        fileMode: z.optional(z.int()),
        permissions: z.optional(z.string().check(z.regex(/^[rwm]*$/))),
        uid: z.optional(z.int()),
        gid: z.optional(z.int()),
      }),
    ),
  ),
  mounts: z.optional(
    z.array(
      z.strictObject({
        hostPath: path,
        containerPath: path,
        options: z.optional(z.array(z.string())),
        type: z.optional(z.string()),
      }),
    ),
  ),
  hooks: z.optional(
    z.array(
      z.strictObject({
        hookName: z.enum(hookNames),
        path,
        args: z.optional(z.array(z.string())),
        env: envs,
        timeout: z.optional(z.int()),
      }),
    ),
  ),
  additionalGids: z.optional(z.array(z.int())),
});
const annotations = z.optional(z.record(z.string(), z.string()));
const fileShape = z.strictObject({
  cdiVersion: z.string().check(z.regex(/^v?[01]\.\d+\.\d+$/)),
  kind: z.string().check(z.regex(/^[a-z](?:[\w.-]*[a-z0-9])?\/[a-z](?:[\w.-]*[a-z0-9])?$/i)),
  annotations,
  devices: z
    .array(
      z.strictObject({
        name: z.string().check(z.regex(/^[a-z0-9](?:[\w.:-]*[a-z0-9])?$/i)),
        annotations,
        containerEdits: editsShape,
      }),
    )
    .check(z.minLength(1)),
  containerEdits: z.optional(editsShape),
});

type Edits = z.output<typeof editsShape>;
type SpecFile = z.output<typeof fileShape>;

/** The devices that files on this host describe, as `vendor.com/class=name`. */
export class CdiDevices {
  /** What is wrong with files, each a sentence. */
  readonly problems: readonly string[];
  readonly #devices: ReadonlyMap<string, { file: SpecFile; edits: Edits }>;

  private constructor(devices: ReadonlyMap<string, { file: SpecFile; edits: Edits }>, problems: string[]) {
    this.#devices = devices;
    this.problems = problems;
  }

  /** Reads all files; of a device that several directories have, the last one counts, within one none does. */
  static async read(directories: readonly string[]): Promise<CdiDevices> {
    const devices = new Map<string, { file: SpecFile; edits: Edits }>();
    const problems: string[] = [];
    for (const directory of directories) {
      const here = new Set<string>();
      const conflicts = new Set<string>();
      for (const name of await specFilesIn(directory)) {
        const file = await readSpec(join(directory, name)).catch((cause: unknown) => {
          problems.push(`${join(directory, name)}: ${messageOf(cause)}`);
        });
        for (const { name: device, containerEdits } of file?.devices ?? []) {
          const qualified = `${file?.kind}=${device}`;
          if (here.has(qualified)) conflicts.add(qualified);
          here.add(qualified);
          if (file !== undefined) devices.set(qualified, { file, edits: containerEdits });
        }
      }
      for (const name of conflicts) {
        devices.delete(name);
        problems.push(`${directory}: conflicting device ${JSON.stringify(name)}`);
      }
    }
    return new CdiDevices(devices, problems);
  }

  /** Whether there is any device of a kind, such as `nvidia.com/gpu`. */
  hasKind(kind: string): boolean {
    return [...this.#devices.keys()].some((name) => name.startsWith(`${kind}=`));
  }

  /** What these devices do to a container of this user. Throws 500 in dockerd's words for one that is not there. */
  async edits(names: readonly string[], user: { uid: number; gid: number }): Promise<DeviceEdits> {
    const unknown = names.filter((name) => !this.#devices.has(name));
    if (unknown.length > 0)
      throw fail.host(`CDI device injection failed: unresolvable CDI devices ${unknown.join(', ')}`);
    const edits: DeviceEdits = { env: [], devices: [], mounts: [], hooks: {}, additionalGids: [] };
    const files = new Set<SpecFile>();
    for (const name of names) {
      const device = this.#devices.get(name);
      if (device === undefined) continue;
      // what a file says for all its devices is done once
      if (!files.has(device.file)) await apply(edits, device.file.containerEdits ?? {}, user);
      files.add(device.file);
      await apply(edits, device.edits, user);
    }
    return edits;
  }
}

async function specFilesIn(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch((cause: unknown) => {
    if (isAbsence(cause)) return [];
    throw cause;
  });
  return names.filter((name) => ['.json', '.yaml'].includes(extname(name))).sort();
}

/** Throws if the file is none of the kind. YAML's superset is not needed for JSON, and its subset here not enough. */
async function readSpec(place: string): Promise<SpecFile> {
  if ((await stat(place)).size > MAX_FILE_BYTES) throw fail.host('too large');
  const text = await readFile(place, 'utf8');
  const isJson = extname(place) === '.json' || text.trimStart().startsWith('{');
  const parsed = z.safeParse(fileShape, isJson ? JSON.parse(text) : withoutNull(parseYaml(text)));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw fail.host(`invalid CDI Spec: ${issue?.path.join('.') || 'the file'} (${issue?.code})`);
}

/** A key without a value is as if it were not there. */
function withoutNull(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNull);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).filter(([, inner]) => inner !== null);
  return Object.fromEntries(entries.map(([key, inner]) => [key, withoutNull(inner)]));
}

async function apply(edits: DeviceEdits, more: Edits, user: { uid: number; gid: number }): Promise<void> {
  edits.env.push(...(more.env ?? []));
  for (const node of more.deviceNodes ?? []) edits.devices.push(await nodeOf(node, user));
  for (const { hostPath, containerPath, options, type } of more.mounts ?? []) {
    edits.mounts.push({
      source: hostPath,
      destination: containerPath,
      type: type ?? 'bind',
      options: options ?? ['rbind', 'rprivate'],
    });
  }
  for (const { hookName, path: program, args, env, timeout } of more.hooks ?? []) {
    const hook = {
      path: program,
      ...(args && { args }),
      ...(env && { env }),
      ...(timeout !== undefined && { timeout }),
    };
    edits.hooks[hookName] = [...(edits.hooks[hookName] ?? []), hook];
  }
  edits.additionalGids.push(...(more.additionalGids ?? []).filter((gid) => gid !== 0));
}

type Node = NonNullable<Edits['deviceNodes']>[number];

/** A node as it is described; what is left out is as on the host. */
async function nodeOf(node: Node, user: { uid: number; gid: number }): Promise<OciDevice> {
  const hostPath = node.hostPath ?? node.path;
  const isDescribed = node.type !== undefined && (Boolean(node.major) || node.type === 'p');
  const found = await lstat(hostPath).catch((cause: unknown) => {
    if (isDescribed) return undefined;
    throw fail.host(
      `CDI device injection failed: failed to inject devices: failed to stat CDI host device ${JSON.stringify(hostPath)}: ${isAbsence(cause) ? 'no such file or directory' : messageOf(cause)}`,
    );
  });
  const type = node.type ?? (found?.isBlockDevice() ? 'b' : found?.isFIFO() ? 'p' : 'c');
  const isThatType = {
    b: found?.isBlockDevice(),
    p: found?.isFIFO(),
    c: found?.isCharacterDevice(),
    u: true,
  }[type];
  if (!isDescribed && isThatType !== true)
    throw fail.host(`CDI device injection failed: failed to inject devices: ${hostPath}: not a device node`);
  const number = isDescribed
    ? { major: node.major ?? 0, minor: node.minor ?? 0 }
    : deviceNumber(found?.rdev ?? 0);
  return {
    path: node.path,
    type,
    ...number,
    fileMode: node.fileMode ?? (found?.mode ?? 0o666) & 0o7777,
    uid: node.uid ?? user.uid,
    gid: node.gid ?? user.gid,
    permissions: node.permissions || 'rwm',
  };
}
