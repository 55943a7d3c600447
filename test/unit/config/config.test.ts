import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { daemonSchema } from '../../../src/config/schema.ts';
import { type Config, loadConfig } from '../../../src/config.ts';

const dir = mkdtempSync(join(tmpdir(), 'skerry-config-'));
after(() => rmSync(dir, { recursive: true }));

const machine = () => ({ architecture: 'arm64', deviceTreeModel: 'Raspberry Pi 4 Model B Rev 1.4' });
let files = 0;

/** Loads with a configuration file of that content; a default file that may exist on the machine is kept out. */
function load(argv: string[], file: unknown = {}, env: Record<string, string> = {}) {
  const path = join(dir, `${files++}.json`);
  writeFileSync(path, typeof file === 'string' ? file : JSON.stringify(file));
  return { path, invocation: loadConfig(['--config-file', path, ...argv], env, { machine }) };
}

function configOf(argv: string[], file: unknown = {}, env: Record<string, string> = {}): Config {
  const { invocation } = load(argv, file, env);
  if (invocation.kind !== 'run') assert.fail(invocation.text);
  return invocation.config;
}

function refusalOf(argv: string[], file: unknown = {}, env: Record<string, string> = {}): string {
  const { invocation, path } = load(argv, file, env);
  if (invocation.kind !== 'print') return assert.fail('was accepted');
  assert.equal(invocation.exitCode, 1);
  return invocation.text.replaceAll(path, 'FILE');
}

test('the defaults, with the figures of the board that was found', () => {
  const config = configOf([]);
  assert.deepEqual(config.hosts, ['unix:///run/skerry.sock']);
  assert.equal(config.dataRoot, '/var/lib/skerry');
  assert.equal(config.pidfile, '/run/skerry/skerryd.pid');
  assert.equal(config.apiVersionCeiling, '1.45');
  assert.equal(config.apiVersionFloor, '1.24');
  assert.equal(config.board.name, 'raspberrypi4-64');
  assert.match(config.boardReason, /Raspberry Pi 4 Model B/);
  assert.equal(config.maxConcurrentDownloads, config.board.pull.parallelDownloads);
  assert.equal(config.maxConcurrentUploads, Math.min(5, config.board.pull.parallelDownloads));
  assert.equal(config.logs.maxBytes, config.board.logs.maxBytes);
  assert.equal(config.logs.maxFiles, config.board.logs.maxFiles);
  assert.deepEqual(config.runtimes, { crun: { path: 'crun', args: [] }, runc: { path: 'runc', args: [] } });
  assert.equal(config.shutdownTimeoutMs, 15_000);
  assert.deepEqual(config.warnings, []);
});

test('the configuration is frozen to its leaves', () => {
  const config = configOf(['--add-runtime', 'kata=/opt/kata']);
  assert.throws(() => config.hosts.push('x'), TypeError);
  assert.throws(() => Object.assign(config.runtimes['kata'] ?? {}, { path: 'x' }), TypeError);
  assert.throws(() => Object.assign(config.board.store, { cacheBytes: 1 }), TypeError);
});

test('every key can be set by flag and by file, to the same effect', () => {
  const cases: [string[], object, (config: Config) => unknown, unknown][] = [
    [
      ['-H', 'unix:///a', '-H', 'fd://'],
      { hosts: ['unix:///a', 'fd://'] },
      (c) => c.hosts,
      ['unix:///a', 'fd://'],
    ],
    [['-G', 'wheel'], { group: 'wheel' }, (c) => c.group, 'wheel'],
    [['-p', '/p'], { pidfile: '/p' }, (c) => c.pidfile, '/p'],
    [['-l', 'warn'], { 'log-level': 'warn' }, (c) => c.logLevel, 'warn'],
    [['-D'], { debug: true }, (c) => c.logLevel, 'debug'],
    [['--label', 'a=b'], { labels: ['a=b'] }, (c) => c.labels, ['a=b']],
    [['--shutdown-timeout', '3'], { 'shutdown-timeout': 3 }, (c) => c.shutdownTimeoutMs, 3000],
    [['--api-version-ceiling=1.40'], { 'api-version-ceiling': '1.40' }, (c) => c.apiVersionCeiling, '1.40'],
    [['--api-version-floor=1.12'], { 'api-version-floor': '1.12' }, (c) => c.apiVersionFloor, '1.12'],
    [['--supervisor-compat'], { 'supervisor-compat': true }, (c) => c.supervisorCompat, true],
    [['--data-root', '/d'], { 'data-root': '/d' }, (c) => c.dataRoot, '/d'],
    [['--exec-root', '/e'], { 'exec-root': '/e' }, (c) => c.pidfile, '/e/skerryd.pid'],
    [['--board', 'jetson-nano'], { board: 'jetson-nano' }, (c) => c.board.name, 'jetson-nano'],
    [
      ['--registry-mirror', 'https://m:5000/'],
      { 'registry-mirrors': ['https://m:5000/'] },
      (c) => c.registryMirrors,
      ['https://m:5000'],
    ],
    [
      ['--insecure-registry', '10.0.0.0/8', '--insecure-registry=r:5000'],
      { 'insecure-registries': ['10.0.0.0/8', 'r:5000'] },
      (c) => c.insecureRegistries,
      ['10.0.0.0/8', 'r:5000'],
    ],
    [
      ['--max-concurrent-downloads', '7'],
      { 'max-concurrent-downloads': 7 },
      (c) => c.maxConcurrentDownloads,
      7,
    ],
    [['--max-concurrent-uploads', '7'], { 'max-concurrent-uploads': 7 }, (c) => c.maxConcurrentUploads, 7],
    [['--max-download-attempts', '9'], { 'max-download-attempts': 9 }, (c) => c.maxDownloadAttempts, 9],
    [['--delta-mode', 'require'], { 'delta-mode': 'require' }, (c) => c.deltas.mode, 'require'],
    [['--delta-min-saving', '30'], { 'delta-min-saving': 30 }, (c) => c.deltas.minSaving, 30],
    [['--delta-data-root', '/a'], { 'delta-data-root': '/a' }, (c) => c.deltaDataRoot, '/a'],
    [['--keep-generations', '0'], { 'keep-generations': 0 }, (c) => c.keepGenerations, 0],
    [['--pull-lease-seconds', '60'], { 'pull-lease-seconds': 60 }, (c) => c.pullLeaseMs, 60_000],
    [['--pull-spool-above', '64m'], { 'pull-spool-above': '64m' }, (c) => c.pullSpoolAboveBytes, 64 << 20],
    [['--cgroup-parent', '/x'], { 'cgroup-parent': '/x' }, (c) => c.cgroupParent, '/x'],
    [['--init'], { init: true }, (c) => c.init, true],
    [['--init-path', '/i'], { 'init-path': '/i' }, (c) => c.initPath, '/i'],
    [['--experimental'], { experimental: true }, (c) => c.experimental, true],
    [['--no-new-privileges'], { 'no-new-privileges': true }, (c) => c.noNewPrivileges, true],
    [['--default-shm-size', '1m'], { 'default-shm-size': '1m' }, (c) => c.shmBytes, 1 << 20],
    [['--default-ipc-mode', 'shareable'], { 'default-ipc-mode': 'shareable' }, (c) => c.ipcMode, 'shareable'],
    [['--default-cgroupns-mode', 'host'], { 'default-cgroupns-mode': 'host' }, (c) => c.cgroupnsMode, 'host'],
    [
      ['--default-ulimit', 'nofile=5:6'],
      { 'default-ulimits': { nofile: { Name: 'nofile', Soft: 5, Hard: 6 } } },
      (c) => c.ulimits,
      [{ name: 'nofile', soft: 5, hard: 6 }],
    ],
    [
      ['--default-ulimit', 'core=-1'],
      { 'default-ulimits': { core: { Soft: -1, Hard: -1 } } },
      (c) => c.ulimits,
      [{ name: 'core', soft: -1, hard: -1 }],
    ],
    [['--seccomp-profile', '/p'], { 'seccomp-profile': '/p' }, (c) => c.seccompProfile, '/p'],
    [['--cdi-spec-dir', '/c'], { 'cdi-spec-dirs': ['/c'] }, (c) => c.cdiDirectories, ['/c']],
    [['--default-runtime', 'runc'], { 'default-runtime': 'runc' }, (c) => c.defaultRuntime, 'runc'],
    [
      ['--add-runtime', 'k=/k'],
      { runtimes: { k: { path: '/k' } } },
      (c) => c.runtimes['k'],
      { path: '/k', args: [] },
    ],
    [
      ['--log-opt', 'max-size=2m'],
      { 'log-opts': { 'max-size': '2m' } },
      (c) => c.logs.options['max-size'],
      '2m',
    ],
    [
      ['--log-opt', 'max-file=4'],
      { 'log-opts': { 'max-file': '4' } },
      (c) => c.logs.options['max-file'],
      '4',
    ],
    [['-b', 'br1'], { bridge: 'br1' }, (c) => c.bridge, 'br1'],
    [['--bip', '10.1.0.1/24'], { bip: '10.1.0.1/24' }, (c) => c.bip, '10.1.0.1/24'],
    [['--fixed-cidr', '10.1.0.0/25'], { 'fixed-cidr': '10.1.0.0/25' }, (c) => c.fixedCidr, '10.1.0.0/25'],
    [
      ['--ipv6', '--fixed-cidr-v6', 'fd00::/64'],
      { ipv6: true, 'fixed-cidr-v6': 'fd00::/64' },
      (c) => [c.ipv6, c.fixedCidrV6],
      [true, 'fd00::/64'],
    ],
    [['--bip6', 'fd00::1/64'], { bip6: 'fd00::1/64' }, (c) => c.bip6, 'fd00::1/64'],
    [
      ['--default-gateway', '10.1.0.9'],
      { 'default-gateway': '10.1.0.9' },
      (c) => c.defaultGateway,
      '10.1.0.9',
    ],
    [
      ['--default-gateway-v6', 'fd00::9'],
      { 'default-gateway-v6': 'fd00::9' },
      (c) => c.defaultGatewayV6,
      'fd00::9',
    ],
    [
      ['--default-address-pool', 'base=10.8.0.0/16,size=24', '--default-address-pool=Base=fd00::/8,size=64'],
      {
        'default-address-pools': [
          { base: '10.8.0.0/16', size: 24 },
          { base: 'fd00::/8', size: 64 },
        ],
      },
      (c) => c.addressPools.map(({ base, size }) => [base, size]),
      [
        ['10.8.0.0/16', 24],
        ['fd00::/8', 64],
      ],
    ],
    [
      [
        '--default-network-opt',
        'bridge=a.b=1=2',
        '--default-network-opt=bridge=c=',
        '--default-network-opt=macvlan=parent=eth0',
      ],
      { 'default-network-opts': { bridge: { 'a.b': '1=2', c: '' }, macvlan: { parent: 'eth0' } } },
      (c) => c.defaultNetworkOptions,
      { bridge: { 'a.b': '1=2', c: '' }, macvlan: { parent: 'eth0' } },
    ],
    [
      ['--host-gateway-ip', '10.0.0.1'],
      { 'host-gateway-ip': '10.0.0.1' },
      (c) => c.hostGatewayIp,
      '10.0.0.1',
    ],
    [['--mtu', '1400'], { mtu: 1400 }, (c) => c.mtu, 1400],
    [['--icc=false'], { icc: false }, (c) => c.icc, false],
    [['--ip-masq=false'], { 'ip-masq': false }, (c) => c.ipMasq, false],
    [['--ip-forward=false'], { 'ip-forward': false }, (c) => c.ipForward, false],
    [['--registry-certs', '/c'], { 'registry-certs': '/c' }, (c) => c.certificates[0], '/c'],
    [['--http-proxy', 'p:1'], { 'http-proxy': 'p:1' }, (c) => c.proxies.http, 'p:1'],
    [['--https-proxy', 'p:1'], { 'https-proxy': 'p:1' }, (c) => c.proxies.https, 'p:1'],
    [['--no-proxy', 'a,b'], { 'no-proxy': 'a,b' }, (c) => c.proxies.no, 'a,b'],
    [['--dns', '::1'], { dns: ['::1'] }, (c) => c.dns, ['::1']],
    [['--dns-search', 'x.y'], { 'dns-search': ['x.y'] }, (c) => c.dnsSearch, ['x.y']],
    [['--dns-opt', 'ndots:1'], { 'dns-opts': ['ndots:1'] }, (c) => c.dnsOptions, ['ndots:1']],
  ];
  for (const [argv, file, look, expected] of cases) {
    assert.deepEqual(look(configOf(argv)), expected, argv.join(' '));
    assert.deepEqual(look(configOf([], file)), expected, JSON.stringify(file));
  }
  const tried = new Set(cases.flatMap(([, file]) => Object.keys(file)));
  const left = Object.keys(daemonSchema.shape).filter((key) => !tried.has(key));
  assert.deepEqual(
    left,
    ['storage-driver', 'log-driver'],
    'keys with but one value; each other one needs a case',
  );
});

test('the same key in flag and file is refused in the words of dockerd', () => {
  const words =
    'skerryd: unable to configure the daemon with file FILE: the following directives are specified both as a flag and in the configuration file: ';
  assert.equal(
    refusalOf(['-H', 'unix:///a'], { hosts: ['unix:///b', 'fd://'] }).split('\n')[0],
    `${words}hosts: (from flag: [unix:///a], from file: [unix:///b fd://])`,
  );
  assert.equal(
    refusalOf(['--log-level', 'debug', '--mtu=1400', '--live-restore', '--log-opt', 'max-size=1m'], {
      mtu: 1500,
      'log-level': 'info',
      'live-restore': true,
      'log-opts': { 'max-size': '2m' },
    }).split('\n')[0],
    `${words}log-level: (from flag: debug, from file: info), log-opts: (from flag: map[max-size:1m], from file: map[max-size:2m]), mtu: (from flag: 1400, from file: 1500), live-restore: (from flag: true, from file: true)`,
  );
});

test('no message repeats a password', () => {
  const mirror = 'https://user:secret@mirror';
  for (const text of [
    refusalOf(['--registry-mirror', mirror]),
    refusalOf([], { 'registry-mirrors': [mirror] }),
    refusalOf(['--registry-mirror', mirror], { 'registry-mirrors': [mirror] }),
    refusalOf(['--http-proxy', 'user:secret@mirror x']),
    refusalOf([], { proxies: { 'http-proxy': 'socks5://user:secret@mirror' } }),
    refusalOf(['--https-proxy', 'user:se@secret@mirror'], {
      proxies: { 'https-proxy': 'http://u:secret@mirror' },
    }),
  ]) {
    assert.match(text, /xxxxx:xxxxx@mirror/);
    assert.doesNotMatch(text, /secret/);
  }
});

test('proxies: of the file an object of their own, each else from the environment, a flag before both', () => {
  const env = { HTTP_PROXY: 'env:1', https_proxy: 'env:2', NO_PROXY: 'upper', no_proxy: 'lower' };
  assert.deepEqual(configOf([], {}, env).proxies, { http: 'env:1', https: 'env:2', no: 'upper' });
  const proxies = { 'http-proxy': 'http://file:1', 'no-proxy': '*' };
  const { http, https, no } = configOf(['--https-proxy', 'flag:1'], { proxies }, env).proxies;
  assert.deepEqual([http, https, no], ['http://file:1', 'flag:1', '*']);
  // what the environment has is for others as well, and stops nothing
  assert.equal(configOf([], {}, { HTTP_PROXY: 'socks5://x' }).proxies.http, 'socks5://x');
  assert.deepEqual(configOf([], { proxies: {} }).proxies, { http: '', https: '', no: '' });
  for (const [argv, file, message] of [
    [
      ['--http-proxy', 'a'],
      { proxies },
      /both as a flag .*: http-proxy: \(from flag: a, from file: http:\/\/file:1\)/,
    ],
    [[], { proxies, 'no-proxy': 'x' }, /no-proxy: is set within proxies and beside it/],
    [[], { proxies: { 'ftp-proxy': 'x' } }, /proxies\.ftp-proxy: is not a known key/],
    [[], { proxies: 'x' }, /proxies: must be an object/],
    [['--http-proxy', 'socks5://p'], {}, /--http-proxy: must be an http.*unsupported proxy scheme "socks5"/],
  ] as const) {
    assert.match(refusalOf([...argv], file), message);
  }
});

test('runtimes of flag and file add up', () => {
  const { runtimes } = configOf(['--add-runtime', 'a=/a'], {
    runtimes: { b: { path: '/b', runtimeArgs: ['--x'] } },
  });
  assert.deepEqual(Object.keys(runtimes), ['crun', 'runc', 'b', 'a']);
  assert.deepEqual(runtimes['b'], { path: '/b', args: ['--x'] });
});

test('whatever is wrong is named, by its flag or by its place in the file', () => {
  const cases: [string[], unknown, RegExp][] = [
    [['--nope'], {}, /^skerryd: unknown flag: --nope\nSee 'skerryd --help'\.\n$/],
    [['stray'], {}, /unexpected argument: stray/],
    [['--mtu', 'big'], {}, /--mtu: must be a whole number from 68 to 65535 \(is "big"\)/],
    [['--mtu', '5'], {}, /--mtu: must be a whole number from 68/],
    [['-H', 'tcp://0.0.0.0:2375'], {}, /--host: tcp:\/\/ is not offered without mutual TLS: use unix/],
    [['-H', 'unix://relative'], {}, /--host: must be unix:/],
    [['-H', `unix:///${'x'.repeat(107)}`], {}, /at most 107 bytes/],
    [['--registry-mirror', 'https://m/path'], {}, /--registry-mirror: must not have a path/],
    [['--registry-mirror', 'https://u:secret@m'], {}, /must not carry a user name or password/],
    [
      ['--insecure-registry', 'http://r'],
      {},
      /--insecure-registry: must be a host or a network, without a scheme/,
    ],
    [['--label', 'x'], {}, /--label: must have the form KEY=VALUE/],
    [['--label', 'a=1', '--label', 'a=2'], {}, /labels: conflict labels for a: a=1 and a=2/],
    [['--add-runtime', 'kata'], {}, /--add-runtime: "kata" must have the form NAME=PATH/],
    [['--default-runtime', 'kata'], {}, /default-runtime: specified default runtime 'kata' does not exist/],
    [['--log-opt', 'sieve=x'], {}, /log-opts: unknown log opt 'sieve' for json-file log driver/],
    [['--log-opt', 'max-size=wide'], {}, /log-opts: invalid size: 'wide'/],
    [['--log-driver', 'syslog'], {}, /log-driver: must be one of journald, json-file, local, none/],
    [['--board', 'pdp-11'], {}, /board: there is no profile "pdp-11"/],
    [['--bip', '10.0.0.1'], {}, /--bip: must be an IPv4 address and prefix length/],
    [['--bridge', 'none'], {}, /--bridge: must be the name of a network interface/],
    [['--cgroup-parent', '/a/../b'], {}, /--cgroup-parent: must be a path without "\.\."/],
    [['--storage-driver', 'zfs'], {}, /--storage-driver: must be one of overlay2/],
    [
      ['--api-version-ceiling', '1.46'],
      {},
      /--api-version-ceiling: must be one of 1\.39, .* 1\.45 \(is "1\.46"\)/,
    ],
    [
      ['--api-version-ceiling=1.40', '--api-version-floor=1.41'],
      {},
      /api-version-floor: must be from 1\.12 to the ceiling, 1\.40 \(is 1\.41\)/,
    ],
    [['--api-version-floor=1.9'], {}, /api-version-floor: must be from 1\.12/],
    [[], { 'api-version-ceiling': 1.4 }, /FILE: api-version-ceiling: must be one of .* \(is 1\.4\)/],
    [
      [],
      { nope: 1, neither: 2 },
      /FILE: the following directives don't match any configuration option: nope, neither\n/,
    ],
    [[], { runtimes: { k: { pfad: '/k' } } }, /FILE: runtimes\.k\.path: is missing/],
    [
      [],
      { runtimes: { k: { path: '/k', runtimeType: 'x' } } },
      /FILE: runtimes\.k\.runtimeType: is not a known key/,
    ],
    [[], { hosts: 'unix:///a' }, /FILE: hosts: must be a list of addresses \(is "unix:\/\/\/a"\)/],
    [[], { icc: 'yes' }, /FILE: icc: must be true or false \(is "yes"\)/],
    [[], { 'data-root': 'relative' }, /FILE: data-root: must be an absolute path/],
    [[], '{"icc": tru', /FILE: .*JSON/],
    [[], '[]', /FILE: must hold one JSON object/],
  ];
  for (const [argv, file, pattern] of cases) {
    assert.match(refusalOf(argv, file), pattern);
    assert.match(refusalOf(['--validate', ...argv], file), pattern);
  }
});

test('a configuration file that was named must be there; the default one need not', () => {
  const missing = loadConfig(['--config-file', join(dir, 'none.json')], {}, { machine });
  assert.equal(missing.kind, 'print');
  assert.match(missing.kind === 'print' ? missing.text : '', /none\.json: ENOENT/);
  assert.equal(configOf([], '  \n').mtu, 1500);
});

test('the floor may come from the environment, and is checked there too', () => {
  const env = { DOCKER_MIN_API_VERSION: '1.30' };
  assert.equal(configOf([], {}, env).apiVersionFloor, '1.30');
  assert.equal(configOf(['--api-version-floor=1.31'], {}, env).apiVersionFloor, '1.31');
  assert.equal(configOf([], { 'api-version-floor': '1.32' }, env).apiVersionFloor, '1.32');
  assert.match(
    refusalOf([], {}, { DOCKER_MIN_API_VERSION: 'v1.30' }),
    /^skerryd: DOCKER_MIN_API_VERSION: must be a version/,
  );
});

test("dockerd's keys without meaning here warn once each", () => {
  const { warnings } = configOf(['--userland-proxy=false', '--exec-opt', 'a=b', '--exec-opt', 'c=d'], {
    'live-restore': true,
    features: { buildkit: true },
  });
  assert.deepEqual(
    warnings.map((warning) => warning.split(':')[0]),
    ['live-restore', 'userland-proxy', 'exec-opts', 'features'],
  );
  assert.match(warnings[0] ?? '', /has no effect: containers always outlive the daemon/);
});

test('keys that would leave containers less confined than asked for stop the start, unless they are off', () => {
  assert.match(refusalOf([], { 'userns-remap': 'default' }), /userns-remap: cannot be honoured/);
  assert.match(refusalOf(['--iptables=false'], {}), /iptables: cannot be honoured/);
  assert.match(refusalOf([], { 'selinux-enabled': true }), /selinux-enabled: cannot be honoured/);
  const { warnings } = configOf(['--iptables=true', '--ip', '0.0.0.0'], {
    'userns-remap': '',
    'selinux-enabled': false,
  });
  assert.equal(warnings.length, 4);
});

test('limits of processes that make none are refused', () => {
  const refused = (limits: object) => refusalOf([], { 'default-ulimits': limits });
  assert.match(refused({ files: { Soft: 1, Hard: 1 } }), /invalid ulimit type: files/);
  assert.match(refused({ nofile: { Soft: 2, Hard: 1 } }), /must be less than or equal to hard limit: 2 > 1/);
  assert.match(
    refused({ nofile: { Soft: -1, Hard: 1 } }),
    /must be less than or equal to hard limit: -1 > 1/,
  );
  assert.match(refused({ nofile: {} }), /nofile.Soft: is missing/);
  assert.match(refusalOf(['--default-ulimit', 'nofile=many'], {}), /must be a whole number/);
});

test('address pools and network options that make no sense are refused', () => {
  const refused = (entry: object) => refusalOf([], { 'default-address-pools': [entry] });
  assert.match(refused({ base: '10.0.0.0', size: 24 }), /pools.0.base: must be a network/);
  assert.match(refused({ base: '10.0.0.0/16', size: 8 }), /pools.0.size: must be from 16 to 32 \(is 8\)/);
  assert.match(refused({ base: 'fd00::/64', size: 129 }), /whole number from 1 to 128/);
  assert.match(refused({ base: '10.0.0.0/16' }), /pools.0.size: is missing/);
  assert.match(refused({ base: '10.0.0.0/16', size: 24, more: 1 }), /pools.0.more: is not a known key/);
  const flag = (text: string) => refusalOf(['--default-address-pool', text]);
  assert.match(flag('10.0.0.0/16'), /invalid field '10.0.0.0\/16' must be a key=value pair/);
  assert.match(flag('base=10.0.0.0/16,size=many'), /must be a whole number/);
  assert.match(flag('base=10.0.0.0/16,sice=24'), /size is missing|sice is not a known key/);
  assert.match(refusalOf(['--default-network-opt', 'bridge=mtu']), /should be root-key=key=value/);
  assert.match(
    refusalOf([], { 'default-network-opts': { bridge: { mtu: 1 } } }),
    /must be an option of the driver/,
  );
  assert.match(refusalOf(['--default-gateway', 'fd00::1']), /must be an IPv4 address/);
  assert.match(refusalOf(['--fixed-cidr-v6', '10.0.0.0/8']), /must be an IPv6 address and prefix length/);
});

test('IPv6 on the default bridge needs a network of its own', () => {
  assert.match(
    refusalOf(['--ipv6']),
    /no subnet is configured. Specify an IPv6 subnet using --fixed-cidr-v6/,
  );
  assert.ok(configOf(['--ipv6', '--default-address-pool', 'base=fd00::/48,size=64']).ipv6);
  assert.ok(configOf(['--ipv6', '--bip6', 'fd00::1/64']).ipv6);
});

test('--help, --version and --validate print and do not run', () => {
  for (const [argv, pattern] of [
    [['--help'], /^Usage: skerryd \[OPTIONS\].*--api-version-ceiling VERSION.*\(default: 1\.45\)/s],
    [['-v'], /^skerryd version \d+\.\d+\.\d+, build \w+\n$/],
    [['--validate', '--live-restore'], /^warning: live-restore: .*\nconfiguration OK\n$/],
  ] as const) {
    const { invocation } = load([...argv]);
    assert.equal(invocation.kind, 'print');
    assert.equal(invocation.kind === 'print' && invocation.exitCode, 0);
    assert.match(invocation.kind === 'print' ? invocation.text : '', pattern);
  }
});
