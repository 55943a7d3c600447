import { fail } from '../errors.ts';
import { CdiDevices, type DeviceEdits } from '../runtime/cdi.ts';
import type { DeviceRequest } from './model.ts';

/** Under which name files describe graphics processors of NVIDIA, and what clients ask of such devices. */
const nvidiaKind = 'nvidia.com/gpu';
const nvidiaCapabilities = new Set([
  'gpu',
  'nvidia',
  'compute',
  'compat32',
  'graphics',
  'utility',
  'video',
  'display',
]);

/**
 * What the devices that a container requests do to it. All of them are found in CDI files: those of the driver `cdi`
 * by their names there, graphics processors by number. Throws in dockerd's words for what no driver here can give.
 */
export async function editsFor(
  requests: readonly DeviceRequest[],
  directories: readonly string[],
  user: { uid: number; gid: number },
): Promise<{ edits: DeviceEdits; problems: readonly string[] }> {
  const devices = await CdiDevices.read(directories);
  const names = requests.flatMap((request) => namesOf(request, devices));
  return { edits: await devices.edits(names, user), problems: devices.problems };
}

function namesOf(request: DeviceRequest, devices: CdiDevices): string[] {
  if (request.driver === 'cdi') return cdiNames(request);
  const isNvidia = request.driver === 'nvidia' || (request.driver === '' && asksForNvidia(request));
  if (isNvidia && devices.hasKind(nvidiaKind)) return nvidiaNames(request);
  const wanted = (request.capabilities ?? []).map((all) => `[${all.join(' ')}]`).join(' ');
  throw fail.host(
    `could not select device driver ${JSON.stringify(request.driver)} with capabilities: [${wanted}]`,
  );
}

function cdiNames({ count, options, deviceIDs }: DeviceRequest): string[] {
  if (count !== 0) throw fail.host('unexpected count in CDI device request');
  if (Object.keys(options ?? {}).length > 0) throw fail.host('unexpected options in CDI device request');
  return deviceIDs ?? [];
}

/** Any of the lists will do, if all that is in it can be given. */
function asksForNvidia({ capabilities }: DeviceRequest): boolean {
  return (capabilities ?? []).some((all) => all.every((name) => nvidiaCapabilities.has(name)));
}

function nvidiaNames({ count, deviceIDs }: DeviceRequest): string[] {
  const ids = deviceIDs ?? [];
  if (count !== 0 && ids.length > 0) throw fail.host('cannot set both Count and DeviceIDs on device request');
  const wanted = count < 0 ? ['all'] : count > 0 ? Array.from({ length: count }, (_, at) => String(at)) : ids;
  return wanted.map((id) => (id.includes('=') ? id : `${nvidiaKind}=${id}`));
}
