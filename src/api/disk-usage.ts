import { fail } from '../errors.ts';
import { summaryWire } from './container-view.ts';
import type { ApiContext } from './context.ts';
import type { ContainerSummary, ImageSummary } from './engine-views.ts';
import { imageSummaryWire } from './image-wire.ts';
import { answerJson } from './respond.ts';
import { Router } from './router.ts';
import { type Shape, shape, type Wire } from './shapes.ts';
import { type VolumeView, volumeWire } from './volume-wire.ts';

/** What the route needs of the engine: only what was asked for is in the answer. */
export interface DiskUsage {
  measure(kinds: readonly Kind[], o: { isAlone: boolean }): Promise<Usage>;
}

type Kind = 'images' | 'containers' | 'volumes';

interface Usage {
  layersBytes?: number;
  images?: readonly ImageSummary[];
  containers?: readonly ContainerSummary[];
  volumes?: readonly VolumeUsage[];
}

interface VolumeUsage extends VolumeView {
  sizeBytes: number;
  users: number;
}

const kinds: ReadonlyMap<string, Kind | 'none'> = new Map([
  ['image', 'images'],
  ['container', 'containers'],
  ['volume', 'volumes'],
  ['build-cache', 'none'], // the classic builder keeps its steps as images
]);

export function diskUsageRoutes(usage: DiskUsage): Router {
  const router = new Router();

  /** 200, 400 for an unknown type, 500 while another client asks, where daemons of old said so. */
  router.get('/system/df', async (ctx) => {
    const { axes } = ctx.state;
    const types = typesOf(ctx);
    const wanted = types.flatMap((type) => kinds.get(type) ?? []).filter((kind) => kind !== 'none');
    const found = await usage.measure(wanted, { isAlone: !axes.has('G062') });
    const shown = { nowMs: Date.now(), axes };
    const wire: Wire = {
      LayersSize: found.layersBytes ?? 0,
      Images: found.images?.map((view) => imageSummaryWire(view, { axes, withSharedSize: true })) ?? null,
      Containers: found.containers?.map((summary) => summaryWire(summary, shown)) ?? null,
      Volumes: found.volumes?.map((volume) => volumeWire(volume, axes, volume)) ?? null,
      BuildCache: types.includes('build-cache') ? [] : null,
    };
    answerJson(ctx, shape(wire, shapes, axes));
  });

  return router;
}

function typesOf({ state: { query, axes } }: ApiContext): readonly string[] {
  const types = axes.has('G058') ? query.texts('type') : [];
  const unknown = types.find((type) => !kinds.has(type));
  if (unknown !== undefined) throw fail.badRequest(`unknown object type: ${unknown}`);
  return types.length === 0 ? [...kinds.keys()] : types;
}

const shapes: readonly Shape<Wire>[] = [
  {
    gate: 'G061',
    below: (wire) => {
      wire['BuildCache'] = null;
      wire['BuilderSize'] = 0;
    },
  },
];
