import { parseNanos, ZERO_TIME } from '../lib/time.ts';
import { containerConfig } from './container-wire.ts';
import type { Generations, HistoryEntry, ImageSummary, ImageView } from './engine-views.ts';
import { type Shape, shape, type Wire } from './shapes.ts';
import type { Axes } from './versions.ts';

/** The answer to `GET /images/NAME/json`. */
export function imageWire(view: ImageView, axes: Axes): Wire {
  const { record, config } = view;
  const wire: Wire = {
    Id: record.id,
    RepoTags: view.repoTags,
    RepoDigests: view.repoDigests,
    Parent: record.parent ?? '',
    Comment: config.comment || config.history?.at(-1)?.comment || '',
    ...(config.created && { Created: config.created }),
    Container: config.container ?? '',
    ContainerConfig: runConfigWire(config.container_config),
    DockerVersion: config.docker_version ?? '',
    Author: config.author ?? '',
    Config: runConfigWire(config.config),
    Architecture: record.platform.architecture,
    ...(record.platform.variant && { Variant: record.platform.variant }),
    Os: record.platform.os,
    ...(config['os.version'] && { OsVersion: config['os.version'] }),
    Size: record.sizeBytes,
    VirtualSize: record.sizeBytes,
    GraphDriver: { Data: layersWire(view.layerDirs), Name: 'overlay2' },
    RootFS: { Type: 'layers', Layers: record.diffIds },
    Metadata: { LastTagTime: record.lastTagTime ?? ZERO_TIME },
  };
  return shape(wire, inspectShapes, axes);
}

/** One element of the answer to `GET /images/json`. */
export function imageSummaryWire(view: ImageSummary, o: { axes: Axes; withSharedSize: boolean }): Wire {
  const { record, config } = view;
  const wire: Wire = {
    Containers: o.withSharedSize ? view.containers : -1,
    Created: config.created ? secondsOf(config.created) : 0,
    Id: record.id,
    Labels: config.config?.Labels ?? null,
    ParentId: record.parent ?? '',
    RepoDigests: view.repoDigests,
    RepoTags: view.repoTags,
    SharedSize: o.withSharedSize ? view.sharedBytes : -1,
    Size: record.sizeBytes,
    VirtualSize: record.sizeBytes,
  };
  return shape(wire, summaryShapes, o.axes);
}

/** One element of the answer to `GET /images/NAME/history`. */
export function historyWire(entry: HistoryEntry): Wire {
  return {
    Comment: entry.comment,
    Created: entry.created ? secondsOf(entry.created) : 0,
    CreatedBy: entry.createdBy,
    Id: entry.id ?? '<missing>',
    Size: entry.sizeBytes,
    Tags: entry.tags.length === 0 ? null : entry.tags,
  };
}

function secondsOf(time: string): number {
  const nanos = parseNanos(time);
  return nanos === undefined ? 0 : Number(nanos / 1_000_000_000n);
}

/** The run configuration in full, as dockerd prints it: the image's file has only what is set. */
function runConfigWire(config: object | null | undefined): Wire {
  const given = Object.entries(config ?? {}).filter(([, value]) => value !== undefined);
  return containerConfig.encode(containerConfig.decode(Object.fromEntries(given)));
}

/** overlayfs' view of an image alone: its top layer over the others, and where dockerd would mount it. */
function layersWire(layerDirs: readonly string[] | undefined): Wire | null {
  const [top, ...below] = layerDirs ?? [];
  if (top === undefined) return null;
  const layer = top.replace(/\/diff$/, '');
  return {
    ...(below.length > 0 && { LowerDir: below.join(':') }),
    MergedDir: `${layer}/merged`,
    UpperDir: top,
    WorkDir: `${layer}/work`,
  };
}

/** One element of the answer to `GET /images/generations`. */
export function generationsWire({ name, imageId, since, generations }: Generations): Wire {
  return {
    Name: name,
    Id: imageId,
    Since: since,
    Generations: generations.map((generation) => ({
      Id: generation.imageId,
      ...(generation.digest && { Digest: generation.digest }),
      Until: generation.until,
      Size: generation.sizeBytes,
      Whole: generation.isWhole,
    })),
  };
}

const inspectShapes: readonly Shape<Wire>[] = [
  { gate: 'G034', below: (image) => delete image['Variant'] },
  { gate: 'G090', above: (image) => delete image['VirtualSize'] },
  {
    gate: 'G091',
    below: (image) => {
      image['Created'] ??= ZERO_TIME;
    },
  },
  {
    gate: 'G120',
    above: (image) => {
      delete image['Container'];
      delete image['ContainerConfig'];
    },
    below: (image, axes) => {
      if (axes.knows('G120') && image['Container'] === '') delete image['Container'];
    },
  },
];

const summaryShapes: readonly Shape<Wire>[] = [
  {
    gate: 'G081',
    below: (image) => {
      if (!isEmptyList(image['RepoTags']) || !isEmptyList(image['RepoDigests'])) return;
      image['RepoTags'] = ['<none>:<none>'];
      image['RepoDigests'] = ['<none>@<none>'];
    },
  },
  {
    gate: 'G082',
    below: (image) => {
      for (const key of ['RepoTags', 'RepoDigests']) if (isEmptyList(image[key])) image[key] = null;
    },
  },
  { gate: 'G090', above: (image) => delete image['VirtualSize'] },
];

function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}
