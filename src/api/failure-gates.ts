import type { Failure } from '../errors.ts';
import type { Gate } from './gates.ts';
import type { Axes } from './versions.ts';

/** How daemons from before a gate said the same. Failures are worded as the newest daemon words them. */
interface Wording {
  readonly gate: Gate;
  readonly code: string;
  /** Only in answers of this route. */
  readonly route?: string;
  readonly from: RegExp;
  /** `$1` is what the expression caught, `{name}` the route's name, others are the failure's facts. */
  readonly to: string;
  readonly status?: number;
}

const wordings: readonly Wording[] = [
  { gate: 'extractionPoint', code: 'NOT_A_DIRECTORY', from: /^/, to: '', status: 500 },
  { gate: 'extractionPoint', code: 'READONLY_FILES', from: /^/, to: '', status: 500 },
  { gate: 'G076', code: 'BAD_REQUEST', from: /^invalid filter '/, to: "Invalid filter '" },
  {
    gate: 'filterValues',
    code: 'BAD_REQUEST',
    from: /^invalid filter '(status=|exited=)/,
    to: "Invalid filter '$1",
  },
  {
    gate: 'filterValues',
    code: 'BAD_REQUEST',
    route: 'POST /volumes/prune',
    from: /: only one value is expected$/,
    to: '',
  },
  {
    gate: 'filterValues',
    code: 'BAD_REQUEST',
    from: /^[iI]nvalid filter 'exited=.*?': (strconv\..*)$/,
    to: '$1',
    status: 500,
  },
  {
    gate: 'filterValues',
    code: 'NO_SUCH_CONTAINER',
    route: 'GET /containers/json',
    from: /^No such container: /,
    to: 'no such container ',
    status: 500,
  },
  {
    gate: 'filterValues',
    code: 'BAD_PORT_FILTER',
    from: /empty string specified for ports$/,
    to: 'Empty string specified for ports.',
  },
  {
    gate: 'filterValues',
    code: 'BAD_PORT_FILTER',
    from: /invalid range specified for port: /,
    to: 'Invalid range specified for the Port: ',
  },
  { gate: 'filterValues', code: 'BAD_PORT_FILTER', from: /^/, to: '', status: 500 },
  { gate: 'ambiguousPrefix', code: 'AMBIGUOUS_CONTAINER', from: /^multiple/, to: 'Multiple', status: 500 },
  { gate: 'G077', code: 'BAD_REQUEST', route: 'GET /images/search', from: /^limit /, to: 'Limit ' },
  {
    gate: 'G078',
    code: 'NO_SUCH_IMAGE',
    route: 'GET /images/:name/json',
    from: /^/,
    to: 'no such image: {name}: ',
  },
  { gate: 'G085', code: 'INVALID_REFERENCE', route: 'POST /commit', from: /^/, to: '', status: 500 },
  {
    gate: 'G087',
    code: 'INVALID_REFERENCE',
    route: 'POST /images/:name/tag',
    from: /^/,
    to: '',
    status: 500,
  },
  {
    gate: 'G087',
    code: 'INVALID_REFERENCE',
    route: 'POST /images/:name/push',
    from: /^/,
    to: '',
    status: 500,
  },
  {
    gate: 'G113',
    code: 'UNKNOWN_RESTART_POLICY',
    from: /^.*$/,
    to: "invalid restart policy '{policy}'",
  },
  {
    gate: 'G113',
    code: 'MISPLACED_RETRY_COUNT',
    from: /^.*$/,
    to: "maximum retry count cannot be used with restart policy '{policy}'",
  },
  { gate: 'G113', code: 'NEGATIVE_RETRY_COUNT', from: /^invalid restart policy: /, to: '' },
  { gate: 'volumeRequest', code: 'BAD_VOLUME_SIZE', from: /^/, to: '', status: 500 },
  { gate: 'G114', code: 'BAD_REQUEST', from: /^config cannot be empty/, to: 'Config cannot be empty' },
  { gate: 'G114', code: 'NO_COMMAND', from: /^no command/, to: 'No command' },
  { gate: 'G115', code: 'NOT_RUNNING', from: /^container /, to: 'Container ' },
  {
    gate: 'G116',
    code: 'REMOVE_RUNNING',
    from: /^.*$/,
    to: 'You cannot remove a {status} container {id}. Stop the container before attempting removal or force remove',
  },
  {
    gate: 'G116',
    code: 'REMOVE_PAUSED',
    from: /^.*$/,
    to: 'You cannot remove a paused container {id}. Unpause and then stop the container before attempting removal or force remove',
  },
  { gate: 'signalName', code: 'INVALID_SIGNAL', from: /^invalid signal/, to: 'Invalid signal' },
  {
    gate: 'G108',
    code: 'INVALID_NETWORK_NAME',
    from: /^/,
    to: '',
    status: 500,
  },
  { gate: 'swarmNetworks', code: 'NO_SWARM', route: 'POST /networks/create', from: /^/, to: '', status: 500 },
  { gate: 'G109', code: 'INVALID_ENDPOINT', from: /^.*$/s, to: '{earlier}' },
  {
    gate: 'signalName',
    code: 'UNSUPPORTED_SIGNAL',
    route: 'POST /containers/:id/kill',
    from: /^the/,
    to: 'The',
    status: 500,
  },
  {
    gate: 'namespaceJoins',
    code: 'JOIN_PID',
    from: /^failed to join PID namespace: (?=No such container)/,
    to: 'cannot join PID of a non running container: {ref}: ',
  },
  { gate: 'namespaceJoins', code: 'JOIN_PID', from: /^failed to join PID namespace: /, to: '' },
  {
    gate: 'namespaceJoins',
    code: 'JOIN_IPC',
    from: /^failed to join IPC namespace: (?:container \S+: (?=non-shareable))?/,
    to: "can't join IPC of container {ref}: ",
    status: 500,
  },
  {
    gate: 'runtimeName',
    code: 'UNKNOWN_RUNTIME',
    from: /^unknown or invalid runtime name: /,
    to: 'Unknown runtime specified ',
  },
];

/** A failure as a client of these versions is told of it, in an answer of this route. */
export function wordingOf(
  failure: Failure,
  axes: Axes,
  route: string,
  name: string,
): { status: number; message: string } {
  let { status, message } = failure;
  for (const row of wordings) {
    if (row.code !== failure.code || axes.knows(row.gate)) continue;
    if (row.route !== undefined && row.route !== route) continue;
    if (!row.from.test(message)) continue;
    const facts: Readonly<Record<string, string>> = { ...failure.facts, name };
    const to = row.to.replace(/\{(\w+)\}/g, (_, fact: string) => (facts[fact] ?? '').replaceAll('$', '$$$$'));
    message = message.replace(row.from, to);
    status = row.status ?? status;
  }
  return { status, message: `${prefixOf(failure, axes, route, name)}${message}` };
}

/** Kill says first what it could not do. Daemons of old read the signal before they looked for the container. */
function prefixOf({ code }: Failure, axes: Axes, route: string, name: string): string {
  if (route !== 'POST /containers/:id/kill') return '';
  if (code === 'INVALID_SIGNAL' && !axes.knows('signalName')) return '';
  return `${axes.has('G124') ? 'cannot' : 'Cannot'} kill container: ${name}: `;
}
