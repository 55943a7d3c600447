import type { EndpointSettings } from '../engine/model.ts';
import type { NetworkRequest } from '../engine/network-checks.ts';
import type { Shape, Wire } from './shapes.ts';

/** A create request on its way to the engine. */
export interface NetworkDraft {
  request: NetworkRequest;
  checkDuplicate: boolean;
}

/** What differs in requests that make networks. */
export const networkShapes: readonly Shape<NetworkDraft>[] = [
  {
    gate: 'G107',
    below: ({ request, checkDuplicate }) => {
      request.mayDuplicate = !checkDuplicate;
    },
  },
  {
    gate: 'G108',
    below: ({ request }) => {
      request.hasLooseIpam = true;
    },
  },
];

/** A request that puts a container on a network. */
export interface ConnectDraft {
  container: string;
  endpoint: EndpointSettings;
  hasLateChecks?: boolean;
}

/** What differs in it. */
export const connectShapes: readonly Shape<ConnectDraft>[] = [
  {
    gate: 'G093',
    below: ({ endpoint }) => {
      endpoint.macAddress = '';
    },
  },
  {
    gate: 'G109',
    below: (draft) => {
      draft.hasLateChecks = true;
    },
  },
];

/** What differs in a network as it is shown. */
export const networkViewShapes: readonly Shape<Wire>[] = [
  {
    gate: 'noPools',
    above: (wire) => {
      const ipam = wire['IPAM'] as Wire;
      if ((ipam['Config'] as unknown[]).length === 0) ipam['Config'] = null;
    },
  },
];
