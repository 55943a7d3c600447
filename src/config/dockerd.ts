import type { Option } from '../lib/arguments.ts';

/** A key of dockerd that this engine has no use for. */
export interface ForeignKey {
  /** As in `daemon.json`. */
  readonly key: string;
  /** The flag, where it is spelled otherwise: dockerd's lists. */
  readonly flag?: string;
  readonly takes: Option['takes'];
  /** Why it does nothing here. */
  readonly why: string;
  /**
   * Present if leaving the key out would run containers less confined or more exposed than was asked for: such a key
   * stops the start, unless it is empty or has one of these values.
   */
  readonly harmless?: readonly unknown[];
}

const swarm = 'there is no swarm here';
const containerd = 'there is no containerd here';
const ports = 'ports are published by the firewall alone, without a process per port';
const json = 'the daemon always logs JSON lines';
const later = 'it is not supported yet';
const tls = 'the API is not offered over TCP yet';
const off: readonly unknown[] = [false, '', null];

const value = (key: string, why: string, more: Partial<ForeignKey> = {}): ForeignKey => ({
  key,
  takes: 'value',
  why,
  ...more,
});
const values = (key: string, flag: string, why: string, more: Partial<ForeignKey> = {}): ForeignKey => ({
  key,
  flag,
  takes: 'values',
  why,
  ...more,
});
const toggle = (key: string, why: string, more: Partial<ForeignKey> = {}): ForeignKey => ({
  key,
  takes: 'switch',
  why,
  ...more,
});

/** dockerd's keys (18.09 to 26.1) that are not ours: each gets one warning, or stops the start where that is safer. */
export const foreignKeys: readonly ForeignKey[] = [
  toggle('live-restore', 'containers always outlive the daemon'),
  toggle('userland-proxy', ports),
  value('userland-proxy-path', ports),
  value('log-format', json),
  toggle('raw-logs', json),
  values('exec-opts', 'exec-opt', 'cgroups are written without a driver in between'),
  values('storage-opts', 'storage-opt', 'overlay2 has no options here'),
  value('oom-score-adjust', "it belongs into the service's unit (OOMScoreAdjust=)"),
  value('api-cors-header', 'browsers are not served'),
  values(
    'allow-nondistributable-artifacts',
    'allow-nondistributable-artifacts',
    'all layers are treated alike',
  ),
  value('features', 'there are no feature switches here'),
  value('builder', 'there is no BuildKit here'),
  value('containerd', containerd),
  value('containerd-namespace', containerd),
  value('containerd-plugins-namespace', containerd),
  toggle('cri-containerd', containerd),
  value('swarm-default-advertise-addr', swarm),
  values('node-generic-resources', 'node-generic-resource', swarm),
  value('network-control-plane-mtu', swarm),
  value('cluster-store', swarm),
  value('cluster-advertise', swarm),
  values('cluster-store-opts', 'cluster-store-opt', swarm),
  value('cpu-rt-period', later),
  value('cpu-rt-runtime', later),
  value('metrics-addr', later),
  toggle('ip6tables', later),

  value('ip', 'ports are published on every address unless the container says otherwise', {
    harmless: [...off, '0.0.0.0'],
  }),
  toggle('iptables', 'networks cannot do without firewall rules of their own', { harmless: [true] }),
  value('userns-remap', later, { harmless: off }),
  toggle('rootless', later, { harmless: off }),
  toggle('selinux-enabled', later, { harmless: off }),
  values('authorization-plugins', 'authorization-plugin', later, { harmless: off }),
  toggle('tls', tls, { harmless: off }),
  toggle('tlsverify', tls, { harmless: off }),
  value('tlscacert', tls, { harmless: off }),
  value('tlscert', tls, { harmless: off }),
  value('tlskey', tls, { harmless: off }),
];

/** What to say of a foreign key that was given: a warning, or a refusal that stops the start. */
export function judgeForeign(
  { key, why, harmless }: ForeignKey,
  given: unknown,
): { message: string; isRefused: boolean } {
  const isEmpty = typeof given === 'object' && given !== null && Object.keys(given).length === 0;
  const isRefused = harmless !== undefined && !isEmpty && !harmless.includes(given);
  return { message: `${key}: ${isRefused ? 'cannot be honoured' : 'has no effect'}: ${why}`, isRefused };
}
