/** A request about volumes; `{places}` is a directory with `binds/`, a body goes as it is. */
export type VolumeRequest = string | readonly [request: string, body: string | object];

const create = (body: string | object): VolumeRequest => ['POST /volumes/create', body];
const list = (filters: object | string): VolumeRequest =>
  `GET /volumes?filters=${encodeURIComponent(typeof filters === 'string' ? filters : JSON.stringify(filters))}`;
const prune = (filters: object): VolumeRequest =>
  `POST /volumes/prune?filters=${encodeURIComponent(JSON.stringify(filters))}`;

/**
 * In this order, each on what those before it left. The container `user` has the volume `used` and one without a name;
 * it does not run.
 */
export const volumeRequests: readonly VolumeRequest[] = [
  // made
  create({ Name: 'plain' }),
  create({ Name: 'cli', Driver: 'local', DriverOpts: {}, Labels: {} }),
  create({ Name: 'nulls', Driver: '', DriverOpts: null, Labels: null }),
  create({ Name: 'db-1', Labels: { tier: 'db', x: '' } }),
  create({ Name: 'web-1', Labels: { tier: 'web' } }),
  create({ name: 'lower', LABELS: { a: '1' }, Bogus: 1 }),
  create({}),
  create({ Name: '', Labels: { without: 'name' } }),
  create({ Name: 'memory', DriverOpts: { type: 'tmpfs', device: 'tmpfs', o: 'size=64k' } }),
  create({ Name: 'bound', DriverOpts: { type: 'none', o: 'bind', device: '{places}/binds' } }),
  create({ Name: 'nodevice', DriverOpts: { type: 'tmpfs', device: '' } }),
  create({ Name: 'share', DriverOpts: { type: 'nfs', o: 'addr=nowhere.invalid,ro', device: ':/x' } }),
  // made again
  create({ Name: 'db-1', Labels: { other: '1' } }),
  create({ Name: 'db-1', DriverOpts: { bogus: '1' } }),
  create({ Name: 'plain', Driver: 'local' }),
  create({ Name: 'plain', Driver: 'nope' }),
  // refused
  create({ Name: 'a' }),
  create({ Name: '..' }),
  create({ Name: 'bad!' }),
  create({ Name: 'a/b' }),
  create({ Name: '-x' }),
  create({ Name: 'ü1' }),
  create({ Name: 'new', Driver: 'nope' }),
  create({ Name: 'a', Driver: 'nope' }),
  create({ Name: 'new', DriverOpts: { bogus: '1' } }),
  create({ Name: 'new', DriverOpts: { '': '' } }),
  create({ Name: 'new', DriverOpts: { type: 'tmpfs' } }),
  create({ Name: 'new', DriverOpts: { device: '/x' } }),
  create({ Name: 'new', DriverOpts: { o: 'ro', type: 'tmpfs' } }),
  create({ Name: 'new', DriverOpts: { size: '1m' } }),
  create({ Name: 'new', DriverOpts: { size: 'x' } }),
  create({ Name: 'new', DriverOpts: { size: '1mbb' } }),
  create({ Name: 'new', DriverOpts: { size: '' } }),
  create({ Name: 'zero', DriverOpts: { size: '0' } }),
  create(''),
  create('{'),
  create('[]'),
  create('null'),
  create('{"Name":1}'),
  create('{"Name":"x1","Labels":[]}'),
  create('{"Name":"x1","Labels":{"a":1}}'),
  create('{"Name":"x1","DriverOpts":"o=1"}'),
  create('{"Name":"trailing"} x'),
  // looked at
  'GET /volumes',
  'GET /volumes/plain',
  'GET /volumes/db-1',
  'GET /volumes/bound',
  'GET /volumes/plai',
  'GET /volumes/nope',
  'GET /volumes/',
  'GET /volumes/a%2Fb',
  'GET /volumes/..%2F..',
  // listed
  list({ name: ['db-'] }),
  list({ name: ['^web-.$', 'lower'] }),
  list({ name: ['['] }),
  list({ label: ['tier'] }),
  list({ label: ['tier=db', 'x'] }),
  list({ label: ['x='] }),
  list({ label: { 'tier=web': true } }),
  list({ driver: ['local'] }),
  list({ driver: ['nope'] }),
  list({ dangling: ['true'] }),
  list({ dangling: ['0'] }),
  list({ dangling: ['1'], name: ['[a-z]-1$'] }),
  list({ dangling: ['x'] }),
  list({ bogus: ['x'] }),
  list({ until: ['1h'] }),
  list({}),
  list('zz'),
  list('{"name":"x"}'),
  // removed
  'DELETE /volumes/used',
  'DELETE /volumes/used?force=1',
  'DELETE /volumes/nope',
  'DELETE /volumes/nope?force=true',
  'DELETE /volumes/',
  'DELETE /volumes/bound',
  'DELETE /volumes/bound',
  'DELETE /volumes/web-1?force=0',
  'PUT /volumes/plain',
  'POST /volumes/plain',
  // pruned
  prune({ all: ['true'] }),
  prune({ until: ['1h'] }),
  prune({ bogus: ['1'] }),
  prune({ label: ['nope'] }),
  prune({ label: ['tier=db'], 'label!': ['x'] }),
  prune({ 'label!': ['tier'], label: ['a=1'] }),
  prune({ label: ['tier'] }),
  'POST /volumes/prune',
  'POST /volumes/prune?filters=zz',
  'GET /volumes',
];
