import type { Wire } from './shapes.ts';
import type { Axes } from './versions.ts';
import { type Codec, map, nullable, struct, text } from './wire.ts';

/** A volume as the engine shows it. */
export interface VolumeView {
  record: {
    name: string;
    createdAt: string;
    isAnonymous: boolean;
    labels: Readonly<Record<string, string>> | null;
    options: Readonly<Record<string, string>> | null;
  };
  path: string;
}

/** What `POST /volumes/create` takes. */
export interface VolumeRequest {
  name: string;
  driver: string;
  driverOpts: Record<string, string> | null;
  labels: Record<string, string> | null;
  /** Of a swarm's volume. What is in it, only a swarm would need to know. */
  clusterVolumeSpec: object | null;
}

const ANONYMOUS_LABEL = 'com.docker.volume.anonymous';

/** Of all drivers there is one. */
const LOCAL = { Driver: 'local', Scope: 'local' } as const;

/** A volume in answers, with what it takes of the disk where that was asked for. */
export function volumeWire(view: VolumeView, axes: Axes, usage?: { sizeBytes: number; users: number }): Wire {
  const { record, path } = view;
  const wire: Wire = {
    CreatedAt: record.createdAt.replace(/\.\d+/, ''), // whole seconds, as dockerd has it
    Driver: LOCAL.Driver,
    Labels: record.labels,
    Mountpoint: path,
    Name: record.name,
    Options: record.options,
    Scope: LOCAL.Scope,
    ...(usage && { UsageData: { RefCount: usage.users, Size: usage.sizeBytes } }),
  };
  return axes.has('G064') || !record.isAnonymous ? wire : withoutMark(wire, record.labels);
}

/** Daemons of old do not mark volumes without a name. */
function withoutMark(wire: Wire, labels: Readonly<Record<string, string>> | null): Wire {
  const { [ANONYMOUS_LABEL]: _, ...own } = labels ?? {};
  return { ...wire, Labels: Object.keys(own).length === 0 ? null : own };
}

const anything: Codec<object | null> = nullable<object>({
  go: 'volume.ClusterVolumeSpec',
  zero: () => ({}),
  decode: struct('', 'volume.ClusterVolumeSpec', {}).decode,
  encode: (value) => value,
});

function requestOf(name: string): Codec<VolumeRequest> {
  return struct<VolumeRequest>(name, `volume.${name}`, {
    clusterVolumeSpec: ['ClusterVolumeSpec', anything],
    driver: ['Driver', text],
    driverOpts: ['DriverOpts', map(text)],
    labels: ['Labels', map(text)],
    name: ['Name', text],
  });
}

const ofOld = requestOf('VolumeCreateBody');
const ofNow = requestOf('CreateOptions');

/** Complaints name Go's type, which was renamed once. */
export function volumeRequest(axes: Axes): Codec<VolumeRequest> {
  return axes.has('volumeRequest') ? ofNow : ofOld;
}
