import type { ContainerConfig, ContainerRecord, ContainerState, HostConfig } from '../../src/engine/model.ts';
import { ZERO_TIME } from '../../src/lib/time.ts';
import { plainConfig, plainHostConfig } from './container-requests.ts';

export const newState: ContainerState = {
  status: 'created',
  pid: 0,
  exitCode: 0,
  error: '',
  oomKilled: false,
  startedAt: ZERO_TIME,
  finishedAt: ZERO_TIME,
};

export const endedState: ContainerState = {
  ...newState,
  status: 'exited',
  startedAt: '2026-01-01T00:00:00Z',
  finishedAt: '2026-01-01T00:00:01Z',
};

/** A container as the engine remembers it; what is not said is as plain as can be. */
export function containerRecord(
  o: Partial<Omit<ContainerRecord, 'config' | 'hostConfig' | 'state'>> & {
    config?: Partial<ContainerConfig>;
    hostConfig?: Partial<HostConfig>;
    state?: Partial<ContainerState>;
  } = {},
): ContainerRecord {
  return {
    id: 'c'.repeat(64),
    name: 'c1',
    createdAt: '2026-01-01T00:00:00Z',
    imageId: `sha256:${'a'.repeat(64)}`,
    platform: { os: 'linux', architecture: 'amd64' },
    diffIds: [],
    endpoints: {},
    mounts: [],
    ports: {},
    restartCount: 0,
    isStoppedByUser: false,
    runtime: 'crun',
    ...o,
    config: { ...plainConfig, hostname: 'cccccccccccc', cmd: ['/bin/sh'], ...o.config },
    hostConfig: { ...plainHostConfig, networkMode: 'default', ...o.hostConfig },
    state: { ...newState, ...o.state },
  };
}
