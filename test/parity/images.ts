import { boxImage } from '../support/box-image.ts';
import { makeLayer, type TestImage } from '../support/registry-images.ts';

const path = 'PATH=/usr/local/bin:/usr/bin:/bin';

/** The images that both engines have: a plain one, and one whose config says as much as it can. */
export async function images(): Promise<{ tag: string; image: TestImage }[]> {
  const box = await boxImage({ config: { Cmd: ['sh'], Env: [path] } });
  const full = await boxImage({
    layers: [await makeLayer({ 'data/kept': 'of the image\n', 'work/file': 'x' })],
    config: {
      ...{ Entrypoint: ['/bin/echo', 'said'], Cmd: ['by', 'image'], Env: [path, 'FROM=image', 'EMPTY='] },
      ...{ User: 'alice:dialout', WorkingDir: '/srv/new', Volumes: { '/data': {} } },
      ...{ ExposedPorts: { '80/tcp': {}, '53/udp': {} }, Labels: { 'of.image': 'yes', both: 'image' } },
      ...{ StopSignal: 'SIGUSR1', Healthcheck: { Test: ['CMD', 'true'], Interval: 3_600_000_000_000 } },
      ...{ Shell: ['/bin/ash', '-c'] },
    },
  });
  return [
    { tag: 'box:1', image: box },
    { tag: 'full:1', image: full },
    { tag: 'bare:1', image: await boxImage({ config: { Cmd: null, Env: null } }) },
  ];
}
