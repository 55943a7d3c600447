import { accessSync, constants } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { basename, isAbsolute, join } from 'node:path';
import { codeOf, fail } from '../errors.ts';
import type { CgroupLayout } from '../host/cgroup.ts';
import { type Finished, run } from '../host/exec.ts';
import type { Log } from '../lib/log.ts';
import { concealControllers, type Wrapper } from './concealed-controllers.ts';

/** An OCI runtime's command line, the same for crun, runc, youki, gVisor and Kata. */
export class OciRuntime {
  readonly name: string;
  readonly path: string;
  readonly #stateDirectory: string;
  readonly #args: readonly string[];
  readonly #wrapper: Wrapper | undefined;

  /** With a wrapper, whatever makes a container goes through that. */
  constructor(
    name: string,
    path: string,
    stateDirectory: string,
    args: readonly string[],
    wrapper?: Wrapper,
  ) {
    this.name = name;
    this.path = path;
    this.#stateDirectory = stateDirectory;
    this.#args = args;
    this.#wrapper = wrapper;
  }

  /** The command line, up to the command, of one that makes a container. */
  maker(logPath: string): { path: string; args: string[] } {
    const { path, args } = { path: this.path, args: this.args(logPath) };
    const wrapper = this.#wrapper;
    return wrapper === undefined
      ? { path, args }
      : { path: wrapper.path, args: [...wrapper.args, path, ...args] };
  }

  /**
   * What comes before any command: where its state is, what the configuration adds, and where it logs to. As it has
   * a log, what it writes to stderr is plain. crun writes into the container's stderr, in the same form, why a program
   * could not be executed: people and supervisors read that.
   */
  args(logPath = '/dev/null'): string[] {
    const format = isCrun(this.path) ? 'text' : 'json';
    return ['--root', this.#stateDirectory, '--log', logPath, '--log-format', format, ...this.#args];
  }

  /**
   * What it gets in its environment. runc does one thing after the other: on a busy machine more threads of Go's lose up
   * to a fifth of an exec by waking each other; on a quiet one they may gain as much. Other programs in Go may serve for as long as the container
   * lives.
   */
  get environment(): Readonly<Record<string, string>> {
    return basename(this.path) === 'runc' ? { GOMAXPROCS: '1' } : {};
  }

  /** Runs a command to its end. Any exit code is a result. */
  call(...command: string[]): Promise<Finished> {
    // or a start would wait for the container to report to the service manager that we ourselves report to
    return run(this.path, [...this.args(), ...command], {
      env: { NOTIFY_SOCKET: undefined, ...this.environment },
    });
  }

  /** The first number that it says it is. */
  async version(): Promise<string> {
    const { stdout } = await run(this.path, ['--version']);
    return /\bversion\s+(\S+)/.exec(stdout)?.[1] ?? stdout.split('\n', 1)[0] ?? '';
  }
}

/** A runtime as the configuration names it; a path without a slash is looked for in PATH. */
export interface RuntimeChoice {
  readonly path: string;
  readonly args?: readonly string[];
}

/** What is taken where the default runtime cannot be. */
const FALLBACK = 'runc';

/** The OCI runtimes of this machine: which there are, and which one a container gets. */
export class Runtimes {
  /** What `/info` should tell. */
  readonly warnings: readonly string[];
  readonly defaultName: string;
  readonly #runtimes: ReadonlyMap<string, OciRuntime>;
  /** Stand-ins for runtimes that do not work here. */
  readonly #replaced: ReadonlyMap<string, string>;

  private constructor(o: {
    runtimes: ReadonlyMap<string, OciRuntime>;
    replaced: ReadonlyMap<string, string>;
    defaultName: string;
    warnings: string[];
  }) {
    this.#runtimes = o.runtimes;
    this.#replaced = o.replaced;
    this.defaultName = o.defaultName;
    this.warnings = o.warnings;
  }

  /** Throws 500 if the default runtime is not there, and neither is the fallback. */
  static async open(o: {
    execRoot: string;
    runtimes: Readonly<Record<string, RuntimeChoice>>;
    defaultRuntime: string;
    cgroups: CgroupLayout;
    log: Log;
  }): Promise<Runtimes> {
    const runtimes = new Map<string, OciRuntime>();
    const replaced = new Map<string, string>();
    const warnings: string[] = [];
    const wrapper = concealControllers(findProgram('perl'), o.cgroups);
    const choices: Record<string, RuntimeChoice> = { [FALLBACK]: { path: FALLBACK }, ...o.runtimes };
    for (const [name, { path, args = [] }] of Object.entries(choices)) {
      const program = findProgram(path);
      if (program === undefined) continue;
      const stateDirectory = join(o.execRoot, 'oci', name);
      await mkdir(stateDirectory, { recursive: true, mode: 0o700 });
      const wrapping = refusesCgroups(path, o.cgroups) ? wrapper : undefined;
      runtimes.set(name, new OciRuntime(name, program, stateDirectory, args, wrapping));
    }
    const hasFallback = runtimes.has(FALLBACK);
    for (const [name, { path }] of Object.entries(choices)) {
      const isRefused = wrapper === undefined && refusesCgroups(path, o.cgroups);
      if (!hasFallback || name === FALLBACK || (runtimes.has(name) && !isRefused)) continue;
      // one that is configured and missing is the user's to see, unless it is the default
      if (!isRefused && name !== o.defaultRuntime) continue;
      replaced.set(name, FALLBACK);
      const reason = isRefused ? 'does not support the hybrid cgroup mount of this host' : 'is not installed';
      warnings.push(`WARNING: OCI runtime ${name} ${reason}, ${FALLBACK} is used instead`);
      o.log.warn({ runtime: name, instead: FALLBACK, reason }, 'OCI runtime cannot be used');
    }
    const defaultName = replaced.get(o.defaultRuntime) ?? o.defaultRuntime;
    if (!runtimes.has(defaultName))
      throw fail.host(
        `OCI runtime ${defaultName} not found: install ${choices[defaultName]?.path ?? defaultName}`,
      );
    return new Runtimes({ runtimes, replaced, defaultName, warnings });
  }

  names(): string[] {
    return [...new Set([...this.#runtimes.keys(), ...this.#replaced.keys()])].sort();
  }

  /** The runtime of that name, or its stand-in. Throws 400 if there is none. */
  get(name: string): OciRuntime {
    const runtime = this.#runtimes.get(this.#replaced.get(name) ?? name);
    if (runtime === undefined) throw fail.unknownRuntime(name);
    return runtime;
  }

  all(): OciRuntime[] {
    return [...this.#runtimes.values()];
  }
}

/**
 * crun refuses hybrid cgroups if controllers are left in the unified hierarchy (libcrun/cgroup.c, the same from 1.8
 * to the present): by its own rule we know it without a try.
 */
function refusesCgroups(path: string, cgroups: CgroupLayout): boolean {
  return isCrun(path) && cgroups.isHybrid && cgroups.hasControllersInUnified;
}

function isCrun(path: string): boolean {
  return basename(path) === 'crun';
}

/** The absolute path of an executable program; undefined if there is none. */
export function findProgram(name: string): string | undefined {
  if (isAbsolute(name)) return isExecutable(name) ? name : undefined;
  const directories = [
    ...(process.env['PATH'] ?? '').split(':'),
    '/usr/sbin',
    '/usr/bin',
    '/usr/libexec/podman',
  ];
  return directories
    .map((directory) => join(directory, name))
    .find((path) => isAbsolute(path) && isExecutable(path));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch (cause) {
    if (codeOf(cause) === undefined) throw cause;
    return false;
  }
}
