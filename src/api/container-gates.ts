import type {
  BindOptions,
  ContainerConfig,
  EndpointSettings,
  HostConfig,
  MountRequest,
} from '../engine/model.ts';
import { fail } from '../errors.ts';
import { endpointSettings, type UpdateBody } from './container-wire.ts';
import type { Shape, Wire } from './shapes.ts';

/** A create request on its way to the engine. */
export interface CreateDraft {
  config: ContainerConfig;
  hostConfig: HostConfig;
  endpoints: Record<string, EndpointSettings>;
  /** The wanted platform as text; empty if none. */
  platform: string;
  warnings: string[];
  /** What is mounted below a read-only bind may be written to. */
  hasFlatReadOnly?: boolean;
  /** How it wants to be on its networks is looked at only when it starts. */
  hasLateEndpoints?: boolean;
}

/** What differs in update requests. */
export const updateShapes: readonly Shape<UpdateBody>[] = [
  {
    gate: 'G013',
    below: (update) => {
      update.pidsLimit = null;
    },
    above: (update) => {
      if (update.pidsLimit !== null && update.pidsLimit <= 0) update.pidsLimit = 0;
    },
  },
  { gate: 'G051', above: (update) => delete update.kernelMemory },
];

/** What differs in create requests, in the order in which dockerd looks at it. Throws 400. */
export const createShapes: readonly Shape<CreateDraft>[] = [
  {
    gate: 'G123',
    above: ({ hostConfig, endpoints }) => {
      if (hostConfig.networkMode !== '' && hostConfig.networkMode !== 'default') return;
      hostConfig.networkMode = 'bridge';
      const { default: endpoint } = endpoints;
      if (endpoint === undefined) return;
      endpoints['bridge'] = endpoint;
      delete endpoints['default'];
    },
    below: ({ hostConfig }) => {
      hostConfig.networkMode ||= 'default';
    },
  },
  {
    gate: 'B125',
    below: ({ hostConfig }) => {
      hostConfig.autoRemove = false;
    },
  },
  { gate: 'G008', below: (draft) => dropBindOption(draft, 'nonRecursive') },
  { gate: 'G009', below: ({ hostConfig }) => delete hostConfig.kernelMemoryTCP },
  {
    gate: 'G007',
    below: ({ hostConfig }) => {
      hostConfig.ipcMode ||= 'shareable';
    },
  },
  {
    gate: 'G011',
    below: ({ hostConfig }) => {
      hostConfig.deviceRequests = null;
    },
  },
  {
    gate: 'G024',
    below: (draft) => {
      draft.platform = '';
    },
  },
  {
    gate: 'G027',
    below: ({ hostConfig }) => {
      hostConfig.cgroupnsMode = '';
    },
  },
  { gate: 'G049', below: (draft) => dropBindOption(draft, 'createMountpoint') },
  {
    gate: 'G050',
    above: (draft) => eachMount(draft, refuseForeignOptions),
    below: (draft, axes) => eachMount(draft, (mount) => settleForeignOptions(mount, axes.knows('G050'))),
  },
  {
    gate: 'G046',
    below: ({ hostConfig }) => {
      hostConfig.consoleSize = [0, 0];
    },
  },
  { gate: 'namespaceModes', below: forgetUnknownModes },
  { gate: 'G051', above: ({ hostConfig }) => delete hostConfig.kernelMemory },
  { gate: 'G080', below: ({ hostConfig }) => delete hostConfig.annotations, above: checkAnnotations },
  { gate: 'G097', below: ({ config }) => delete config.healthcheck?.startInterval },
  { gate: 'G101', below: (draft) => dropBindOption(draft, 'readOnlyNonRecursive') },
  {
    gate: 'G100',
    below: (draft, axes) => {
      if (!axes.knows('G100')) dropBindOption(draft, 'readOnlyForceRecursive');
      else if (draft.hostConfig.mounts?.some((mount) => mount.bindOptions?.readOnlyForceRecursive)) {
        throw fail.badRequest('BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer');
      }
    },
  },
  {
    gate: 'G099',
    below: (draft, axes) => {
      draft.hasFlatReadOnly = true;
      if (!axes.knows('G101')) return; // the daemon of that time has no other kind, and no word for it
      eachMount(draft, (mount) => {
        if (mount.type === 'bind' && mount.readOnly) {
          mount.bindOptions = { ...mount.bindOptions, readOnlyNonRecursive: true };
        }
      });
    },
  },
  {
    gate: 'G092',
    below: ({ endpoints }, axes) => {
      const names = Object.keys(endpoints);
      if (names.length <= 1) return;
      const what = axes.knows('G092') ? 'created with multiple' : 'connected to';
      throw fail.badRequest(`Container cannot be ${what} network endpoints: ${names.join(', ')}`);
    },
  },
  {
    gate: 'G119',
    below: (draft, axes) =>
      eachMount(draft, (mount) => {
        const options = mount.volumeOptions;
        if (axes.knows('G119') && options?.subpath) {
          throw fail.badRequest('VolumeOptions.Subpath needs API v1.45 or newer');
        }
        delete options?.subpath;
      }),
  },
  {
    gate: 'G109',
    below: (draft) => {
      draft.hasLateEndpoints = true;
    },
  },
  { gate: 'G093', below: moveMacAddressQuietly },
  { gate: 'G095', above: moveMacAddress },
  {
    gate: 'G012',
    // daemons of old take 0 for no limit as well, and print it
    below: clearPidsLimit,
    above: clearPidsLimit,
  },
  {
    gate: 'G112',
    above: ({ hostConfig }) => {
      // without a name dockerd takes any count, with this one none
      if (hostConfig.restartPolicy.name === '')
        hostConfig.restartPolicy = { name: 'no', maximumRetryCount: 0 };
    },
  },
];

/** What differs in the warnings that create answers with. */
export const warningShapes: readonly Shape<{ warnings: string[] }>[] = [
  {
    gate: 'G025',
    below: (answer) => {
      answer.warnings = answer.warnings.filter((text) => !text.startsWith("The requested image's platform"));
    },
  },
];

/** What differs in the answer to inspect. */
export const inspectShapes: readonly Shape<Wire>[] = [
  {
    gate: 'G012',
    below: ({ HostConfig: hostConfig }) => {
      (hostConfig as Wire)['PidsLimit'] ??= 0;
    },
  },
  {
    gate: 'G014',
    below: ({ HostConfig: hostConfig }) => {
      (hostConfig as Wire)['DiskQuota'] = 0;
      delete (hostConfig as Wire)['DeviceRequests'];
    },
  },
  { gate: 'G028', below: ({ HostConfig: hostConfig }) => delete (hostConfig as Wire)['CgroupnsMode'] },
  {
    gate: 'G010',
    below: ({ HostConfig: hostConfig }, axes) => {
      if (axes.has('G014')) (hostConfig as Wire)['Capabilities'] = null;
    },
  },
  {
    gate: 'G052',
    below: ({ HostConfig: hostConfig }, axes) => {
      (hostConfig as Wire)['KernelMemory'] ??= 0;
      if (axes.has('G014')) (hostConfig as Wire)['KernelMemoryTCP'] ??= 0;
    },
  },
];

/** An endpoint on a network that a user made; `names` are those that every container has there. */
interface EndpointAnswer {
  wire: Wire;
  names: string[];
  /** The container has run with it. */
  hasBeenUp: boolean;
}

/** What differs in it. */
export const endpointShapes: readonly Shape<EndpointAnswer>[] = [
  {
    gate: 'G121',
    below: ({ wire, names, hasBeenUp }, axes) => {
      // daemons of old wrote the names down at a start, newer ones show them to old clients
      if (!hasBeenUp && !axes.has('G109')) return;
      wire['Aliases'] = [...new Set([...((wire['Aliases'] as string[] | null) ?? []), ...names])];
    },
  },
];

function eachMount({ hostConfig }: CreateDraft, work: (mount: MountRequest) => void): void {
  for (const mount of hostConfig.mounts ?? []) work(mount);
}

function dropBindOption(draft: CreateDraft, option: keyof BindOptions): void {
  eachMount(draft, (mount) => delete mount.bindOptions?.[option]);
}

/** API 1.42 and newer: options belong to their type of mount. */
function refuseForeignOptions({ type, ...mount }: MountRequest): void {
  const owners = [
    ['VolumeOptions', 'volume', mount.volumeOptions],
    ['BindOptions', 'bind', mount.bindOptions],
    ['TmpfsOptions', 'tmpfs', mount.tmpfsOptions],
  ] as const;
  for (const [name, owner, options] of owners) {
    if (options !== undefined && type !== owner) {
      throw fail.badRequest(`${name} must not be specified on mount type "${type}"`);
    }
  }
}

/** Before: new daemons drop what old requests may hold in error, old ones find it in their validator. */
function settleForeignOptions(mount: MountRequest, isDropping: boolean): void {
  const { type } = mount;
  const refuse = (name: string) =>
    fail.badRequest(`invalid mount config for type "${type}": field ${name} must not be specified`);
  if (isDropping && type !== 'volume') delete mount.volumeOptions;
  if (isDropping && type !== 'tmpfs') delete mount.tmpfsOptions;
  if (mount.bindOptions !== undefined && type !== 'bind') throw refuse('BindOptions');
  if (mount.volumeOptions !== undefined && type === 'bind') throw refuse('VolumeOptions');
}

function checkAnnotations({ hostConfig: { annotations } }: CreateDraft): void {
  if (annotations !== undefined && '' in annotations) {
    throw fail.badRequest('invalid Annotations: the empty string is not permitted as an annotation key');
  }
}

function forgetUnknownModes({ hostConfig }: CreateDraft): void {
  const known = /^(|host|container:.+)$/;
  if (!known.test(hostConfig.pidMode)) hostConfig.pidMode = '';
  if (!known.test(hostConfig.utsMode)) hostConfig.utsMode = '';
  if (!/^(none|private|shareable)$/.test(hostConfig.ipcMode) && !known.test(hostConfig.ipcMode))
    hostConfig.ipcMode = '';
}

function clearPidsLimit({ hostConfig }: CreateDraft): void {
  if (hostConfig.pidsLimit !== null && hostConfig.pidsLimit <= 0) hostConfig.pidsLimit = null;
}

/** The one network that a container-wide MAC address can mean: bridge, or one that a user made. */
function takesMacAddress({ networkMode }: HostConfig): boolean {
  return !['host', 'none'].includes(networkMode) && !networkMode.startsWith('container:');
}

function mainNetwork({ networkMode }: HostConfig): string {
  return networkMode === 'default' ? 'bridge' : networkMode;
}

/** API 1.43 and older: only the container has a MAC address, and its one endpoint gets it. */
function moveMacAddressQuietly({ config, hostConfig, endpoints }: CreateDraft): void {
  const { macAddress = '' } = config;
  for (const endpoint of Object.values(endpoints)) endpoint.macAddress = macAddress;
  if (macAddress === '') return;
  if (!takesMacAddress(hostConfig)) {
    throw fail.badRequest('conflicting options: mac-address and the network mode');
  }
  if (Object.keys(endpoints).length === 0) {
    endpoints[mainNetwork(hostConfig)] = { ...endpointSettings.zero(), macAddress };
  }
}

/**
 * API 1.44 and newer: endpoints have MAC addresses. The record keeps the main one's in the container's configuration,
 * where inspect shows it: the endpoint's own field holds what is in force.
 */
function moveMacAddress(draft: CreateDraft): void {
  const { config, hostConfig, endpoints, warnings } = draft;
  const wide = config.macAddress ?? '';
  delete config.macAddress;
  if (wide !== '') {
    warnings.push(
      'The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.',
    );
  }
  if (!takesMacAddress(hostConfig)) return;
  const name = mainNetwork(hostConfig);
  if (wide !== '' && Object.keys(endpoints).length === 0) endpoints[name] = endpointSettings.zero();
  const endpoint = endpoints[name];
  if (wide !== '' && endpoint === undefined) {
    throw fail.badRequest(
      'if a container-wide MAC address is supplied, HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks',
    );
  }
  if (endpoint !== undefined && wide !== '') {
    if (endpoint.macAddress !== '' && endpoint.macAddress !== wide) {
      throw fail.badRequest(
        'the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty',
      );
    }
    endpoint.macAddress = wide;
  }
  if (endpoint !== undefined && endpoint.macAddress !== '') config.macAddress = endpoint.macAddress;
}
