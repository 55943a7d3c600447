import { fail } from '../errors.ts';
import type { RiderDriver } from './rider-networks.ts';
import { ipvlanFlags, ipvlanKind, ipvlanModes, pick } from './virtual-links.ts';

/** Each container has an interface with the parent's MAC address, told from the others' by its IP addresses. */
export const ipvlan: RiderDriver = {
  name: 'ipvlan',
  dummyPrefix: 'di-',
  hasOwnMac: false,
  kindOf({ ipvlan_mode: mode, ipvlan_flag: flag }) {
    const knownMode = pick(ipvlanModes, mode || 'l2');
    if (knownMode === undefined)
      throw fail.network(
        `requested ipvlan mode '${mode}' is not valid, 'l2' mode is the ipvlan driver default`,
      );
    const knownFlag = pick(ipvlanFlags, flag || 'bridge');
    if (knownFlag === undefined)
      throw fail.network(
        `requested ipvlan flag '${flag}' is not valid, 'bridge' is the ipvlan driver default`,
      );
    return ipvlanKind(knownMode, knownFlag);
  },
  // the parent's side is the router: no gateway is asked, not even by ARP
  isRouted: ({ ipvlan_mode: mode }) => mode === 'l3' || mode === 'l3s',
};
