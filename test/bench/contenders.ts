import { join } from 'node:path';
import { root } from './sandbox.ts';

/** Where one run of an engine keeps everything. */
export interface Place {
  /** A temporary directory for sockets, pids and logs. */
  readonly directory: string;
  /** On the disk whose writes are counted. */
  readonly dataRoot: string;
  readonly socket: string;
  /** The parent of the cgroups of its containers. */
  readonly cgroupParent: string;
}

/** An engine to measure: how to start it, and what it starts for each container. */
export interface Contender {
  readonly name: string;
  /** The name in /proc/PID/comm of the process that watches one container. */
  readonly monitor: string;
  command(place: Place): readonly string[];
  /** The content of its `daemon.json`, which is in `directory`. */
  configuration(place: Place): object;
  readonly env: Readonly<Record<string, string>>;
}

/** The built daemon of this checkout, as `scripts/skerryd` starts it. */
export function skerry(): Contender {
  return {
    name: 'skerry',
    monitor: 'conmon',
    env: {},
    configuration: () => ({}),
    command: ({ directory, dataRoot, socket, cgroupParent }) => [
      join(root, 'scripts/skerryd'),
      ...['--host', `unix://${socket}`, '--data-root', dataRoot, '--exec-root', join(directory, 'exec')],
      ...['--cgroup-parent', cgroupParent, '--config-file', join(directory, 'daemon.json')],
      ...['--bip', '172.30.0.1/24'],
    ],
  };
}

/** Debian's dockerd 20.10 with the containerd that it starts itself, without the parts for Kubernetes. */
export function dockerd(programs: readonly string[]): Contender {
  return {
    name: 'dockerd',
    monitor: 'containerd-shim',
    env: { PATH: [...programs, process.env['PATH'] ?? ''].join(':') },
    // else it writes a key of its own into /etc/docker
    configuration: ({ directory }) => ({ 'deprecated-key-path': join(directory, 'key.json') }),
    command: ({ directory, dataRoot, socket, cgroupParent }) => [
      'dockerd',
      ...['--host', `unix://${socket}`, '--data-root', dataRoot, '--exec-root', join(directory, 'exec')],
      ...['--cgroup-parent', cgroupParent, '--config-file', join(directory, 'daemon.json')],
      ...['--pidfile', join(directory, 'pid')],
      ...['--storage-driver', 'overlay2', '--bip', '172.30.0.1/24'],
    ],
  };
}
