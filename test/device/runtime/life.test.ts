import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { capabilities } from '../../../src/host/facts.ts';
import { isAlive, startTicksOf } from '../../../src/host/processes.ts';
import { startExitCode } from '../../../src/runtime/failure.ts';
import { hasControllers, runtimeName, skip, until, World } from './world.ts';

test('from created over running to stopped; then deleted without a trace', { skip }, async () => {
  await using world = await World.open();
  const { runtime } = world;
  const spec = world.spec(['sleep', '60']);
  const { pid, startTicks } = await runtime.create(spec);
  assert.equal(startTicksOf(pid), startTicks);
  assert.deepEqual(await runtime.find(spec.id), { status: 'created', pid });
  assert.deepEqual(await runtime.list(), [spec.id]);
  assert.equal(await runtime.exitOf(spec.id), undefined);
  await runtime.start(spec.id);
  assert.deepEqual(await runtime.find(spec.id), { status: 'running', pid });
  await assert.rejects(runtime.create(spec), { message: /is running already/ });
  await runtime.signal(spec.id, 9);
  const exit = await world.exit(spec.id);
  assert.deepEqual([exit.exitCode, exit.isKnown, exit.wasOomKilled], [137, true, false]);
  assert.deepEqual(await runtime.exitOf(spec.id), exit);
  assert.deepEqual(await runtime.find(spec.id), { status: 'stopped', pid: 0 });
  await assert.rejects(runtime.signal(spec.id, 9), { status: 409 });
  await runtime.delete(spec.id);
  await runtime.delete(spec.id);
  assert.equal(await runtime.find(spec.id), undefined);
  assert.equal(await runtime.exitOf(spec.id), undefined);
  assert.deepEqual(world.leftovers(), []);
  assert.equal(world.exits.length, 1);
});

test('a container that runs is deleted by force, also a paused one', { skip }, async () => {
  await using world = await World.open();
  for (const isPaused of [false, true]) {
    const id = await world.up(['sh', '-c', 'sleep 61 & sleep 62 & wait']);
    if (isPaused && hasControllers) await world.runtime.pause(id);
    const began = performance.now();
    await world.runtime.delete(id);
    assert.ok(performance.now() - began < 5000);
    assert.deepEqual(world.leftovers(), []);
  }
});

test('exit codes, and one exit for each run', { skip }, async () => {
  await using world = await World.open();
  for (const exitCode of [0, 3, 255]) {
    const { exit } = await world.live(['sh', '-c', `exit ${exitCode}`]);
    assert.deepEqual([exit.exitCode, exit.isKnown], [exitCode, true]);
    assert.ok(Math.abs(Date.parse(exit.at) - Date.now()) < 10_000);
  }
  const again = world.spec(['sh', '-c', 'exit 4']);
  for (const run of [1, 2]) {
    await world.runtime.create(again); // what the last run left makes way
    await world.runtime.start(again.id);
    await until(() => world.exits.filter(({ id }) => id === again.id).length === run);
  }
});

test('what cannot be run is told in the words of dockerd, and leaves nothing', { skip }, async () => {
  await using world = await World.open();
  mkdirSync(join(world.rootfs, 'etc/folder'));
  const wording =
    'failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: ';
  for (const [args, reason, exitCode] of [
    [['/nosuch'], '"/nosuch": stat /nosuch: no such file or directory', 127],
    [['nosuch', 'a'], '"nosuch": executable file not found in $PATH', 127],
    [['/etc/folder'], '"/etc/folder": permission denied', 126],
    [['/plain'], '"/plain": permission denied', 126],
  ] as const) {
    for (const terminal of [false, true]) {
      const spec = world.spec(args, { process: { terminal } });
      await assert.rejects(world.runtime.create(spec), (failure: Error & { status?: number }) => {
        assert.equal(failure.message, `${wording}${reason}: unknown`);
        assert.deepEqual([failure.status, startExitCode(failure)], [400, exitCode]);
        return true;
      });
    }
  }
  await assert.rejects(world.runtime.create(world.spec(['true'], { sysctls: { 'kernel.panic': '1' } })), {
    status: 500,
    message: /^failed to create shim task: OCI runtime create failed: .*kernel\.panic.*: unknown$/,
  });
  await assert.rejects(world.runtime.create(world.spec(['true'], { runtime: 'bogus' })), {
    status: 400,
    message: 'unknown or invalid runtime name: bogus',
  });
  const device = { pathOnHost: '/dev/nope', pathInContainer: '/dev/nope', cgroupPermissions: 'rwm' };
  await assert.rejects(world.runtime.create(world.spec(['true'], { devices: [device] })), {
    status: 500,
    message:
      'error gathering device information while adding custom device "/dev/nope": no such file or directory',
  });
  const nowhere = world.spec(['true'], {
    log: world.logIn(join(world.directory, 'no/such/directory/log')),
  });
  await assert.rejects(world.runtime.create(nowhere), { status: 500, message: /^conmon: / });
  assert.deepEqual(world.leftovers(), []);
  assert.equal(world.exits.length, 0);
});

test('a program of the wrong format ends the container with a word in its log', { skip }, async () => {
  await using world = await World.open();
  writeFileSync(join(world.rootfs, 'bin/wrong'), '\x7fELFnonsense', { mode: 0o755 });
  const { exit, stderr } = await world.live(['/bin/wrong']);
  assert.ok(exit.exitCode > 0);
  assert.match(stderr, /exec format error/i);
});

test('pause and resume', { skip: skip || (hasControllers ? false : 'needs a freezer') }, async () => {
  await using world = await World.open();
  const { runtime } = world;
  const id = await world.up(['sleep', '60']);
  await runtime.pause(id);
  assert.equal((await runtime.find(id))?.status, 'paused');
  await runtime.resume(id);
  assert.equal((await runtime.find(id))?.status, 'running');
});

test('orders to what does not run answer 409', { skip }, async () => {
  await using world = await World.open();
  const { runtime } = world;
  for (const order of [
    () => runtime.start('x'),
    () => runtime.signal('x', 15),
    () => runtime.pause('x'),
    () => runtime.resume('x'),
    () => runtime.attach('x'),
    () => runtime.exec(world.execSpec('x', ['true'])),
  ])
    await assert.rejects(order, { status: 409, message: 'container x is not running' });
  await runtime.resize('x', { rows: 1, columns: 1 });
  await runtime.delete('x');
});

test('seen from inside: identity, limits of power, names', { skip }, async () => {
  await using world = await World.open();
  const script =
    'grep -E "^(CapEff|CapBnd|CapPrm|CapInh|NoNewPrivs|Seccomp|Groups):" /proc/self/status; id -u; id -g; ' +
    'hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_unprivileged_port_start; pwd; echo $A; echo $$';
  const root = await world.live(['sh', '-c', script], {
    domainname: 'example.org',
    process: { env: ['PATH=/bin', 'A=b c'], cwd: '/tmp' },
  });
  const mask = '00000000a80425fb';
  assert.match(
    root.stdout,
    new RegExp(`CapInh:\t0{16}\nCapPrm:\t${mask}\nCapEff:\t${mask}\nCapBnd:\t${mask}`),
  );
  assert.match(root.stdout, /NoNewPrivs:\t0\nSeccomp:\t2\n/);
  assert.deepEqual(root.stdout.trim().split('\n').slice(-8), [
    ...['0', '0', 'box', 'example.org', '0', '/tmp', 'b c', '1'],
  ]);
  const user = await world.live(['sh', '-c', script], {
    process: { user: { uid: 12, gid: 34, additionalGids: [34, 56] }, noNewPrivileges: true },
  });
  assert.match(user.stdout, new RegExp(`CapPrm:\t0{16}\nCapEff:\t0{16}\nCapBnd:\t${mask}`));
  assert.match(user.stdout, /Groups:\t34 56 \n.*NoNewPrivs:\t1\n.*12\n34\n/s);
});

test('seen from inside: mounts and paths', { skip }, async () => {
  await using world = await World.open();
  const file = join(world.directory, 'shared');
  writeFileSync(file, 'from outside\n');
  const script =
    'cat /proc/mounts; cat /mnt/file; head -c 1 /proc/kcore | wc -c; echo 1 > /proc/sys/kernel/panic || echo refused; ' +
    'echo x > /etc/new && echo written; stat -f -c "%T %b %S" /dev/shm; ls /dev; ls /sys/firmware';
  const { stdout } = await world.live(['sh', '-c', script], {
    mounts: [{ destination: '/mnt/file', type: 'bind', source: file, options: ['rbind', 'ro'] }],
    shmBytes: 1 << 20,
  });
  assert.match(stdout, /^proc \/proc proc rw,nosuid,nodev,noexec/m);
  assert.match(stdout, /^sysfs \/sys sysfs ro,/m);
  assert.match(stdout, /^mqueue \/dev\/mqueue mqueue rw,nosuid,nodev,noexec/m);
  assert.match(stdout, /^shm \/dev\/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k/m);
  assert.match(stdout, /\nfrom outside\n0\nrefused\nwritten\n/);
  for (const name of ['null', 'zero', 'full', 'random', 'urandom', 'tty', 'ptmx', 'fd', 'stdin', 'pts'])
    assert.match(stdout, new RegExp(`\n${name}\n`));
  const readonly = await world.live(['sh', '-c', 'echo x > /etc/new2 || echo refused'], {
    isRootfsReadonly: true,
  });
  assert.equal(readonly.stdout, 'refused\n');
});

/** Numbers of system calls on x86-64; answers errno, 0 where the call was let through. */
const calls = `
  sub errno { my $call = shift; my $result = syscall($call, @_); print(($result == -1 ? $! + 0 : 0), "\\n") }
  errno(435, 0, 0);               # clone3
  errno(41, 40, 1, 0);            # socket: AF_VSOCK
  errno(41, 38, 5, 0);            # socket: AF_ALG
  errno(41, 1, 1, 0);             # socket: AF_UNIX
  errno(135, 0);                  # personality: PER_LINUX
  errno(135, 0x40000);            # personality: ADDR_NO_RANDOMIZE
  errno(272, 0x10000000);         # unshare: CLONE_NEWUSER
  errno(56, 0x10000000, 0, 0, 0); # clone: CLONE_NEWUSER
  errno(250, 0, 0, 0, 0, 0);      # keyctl
  errno(425, 1, 0);               # io_uring_setup
`;

test('the seccomp filter refuses what dockerd refuses', { skip: skipCalls() }, async () => {
  await using world = await World.open();
  for (const name of ['lib', 'lib64']) symlinkSync(`usr/${name}`, join(world.rootfs, name));
  mkdirSync(join(world.rootfs, 'usr'));
  const mounts = [{ destination: '/usr', type: 'bind', source: '/usr', options: ['rbind', 'ro'] }];
  const { stdout, stderr } = await world.live(['/usr/bin/perl', '-e', calls], { mounts });
  const [EPERM, ENOSYS] = [1, 38];
  assert.equal(stderr, '');
  assert.deepEqual(stdout.trim().split('\n').map(Number), [
    ...[ENOSYS, EPERM, EPERM, 0, 0, EPERM, EPERM, EPERM, EPERM, EPERM],
  ]);
});

function skipCalls(): string | false {
  return skip || (process.arch === 'x64' && existsSync('/usr/bin/perl') ? false : 'needs perl on x86-64');
}

test('the seccomp filter opens with a capability, and can be left out', { skip }, async () => {
  await using world = await World.open();
  const script = 'mount -t tmpfs x /tmp && echo mounted; echo done';
  assert.equal((await world.live(['sh', '-c', script])).stdout, 'done\n');
  const capable = { process: { capabilities: ['CAP_SYS_ADMIN'] } };
  assert.equal((await world.live(['sh', '-c', script], capable)).stdout, 'mounted\ndone\n');
  const free = await world.live(['sh', '-c', 'grep Seccomp: /proc/self/status'], { seccomp: 'unconfined' });
  assert.equal(free.stdout, 'Seccomp:\t0\n');
  const profile = JSON.stringify({
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 30 }],
  });
  const own = await world.live(['sh', '-c', 'mkdir /tmp/x 2>&1'], { seccomp: { profile } });
  assert.match(own.stdout, /Read-only file system/);
});

test('a user who is not root can open its own streams', { skip }, async () => {
  await using world = await World.open();
  const user = { uid: 12, gid: 34, additionalGids: [34] };
  for (const terminal of [false, true]) {
    const { stdout, stderr } = await world.live(['sh', '-c', 'echo a > /dev/stdout; echo b > /dev/stderr'], {
      process: { user, terminal },
    });
    assert.equal(`${stdout}${stderr}`.replaceAll('\r', ''), 'a\nb\n');
  }
});

test('a privileged container has what the host has to give', { skip }, async () => {
  await using world = await World.open();
  const script =
    'grep CapEff /proc/self/status; ls -d /dev/mem /dev/loop-control /dev/kmsg 2>/dev/null; cat /proc/mounts';
  const { stdout } = await world.live(['sh', '-c', script], {
    isPrivileged: true,
    seccomp: 'unconfined',
    maskedPaths: [],
    readonlyPaths: [],
    process: { capabilities: capabilities() },
  });
  const own = /CapBnd:\t(\w+)/.exec(execFileSync('cat', ['/proc/self/status'], { encoding: 'utf8' }))?.[1];
  assert.match(stdout, new RegExp(`^CapEff:\t${own}\n`));
  assert.match(stdout, /^\/dev\/kmsg$/m);
  assert.match(stdout, /^sysfs \/sys sysfs rw,/m);
});

test('devices, sysctls and namespaces of the host', { skip }, async () => {
  await using world = await World.open();
  const devices = [{ pathOnHost: '/dev/null', pathInContainer: '/dev/mine', cgroupPermissions: 'rw' }];
  const { stdout } = await world.live(
    ['sh', '-c', 'stat -c %t:%T /dev/mine; echo x > /dev/mine && echo ok; cat /proc/sys/net/ipv4/ip_forward'],
    { devices, sysctls: { 'net.ipv4.ip_forward': '1' } },
  );
  assert.equal(stdout, '1:3\nok\n1\n');
  const spaces = ['pid', 'ipc', 'uts', 'net', 'cgroup'];
  const script = `for n in ${spaces.join(' ')}; do readlink /proc/self/ns/$n; done`;
  const outside = execFileSync('sh', ['-c', script], { encoding: 'utf8' });
  const shared = await world.live(['busybox', 'sh', '-c', script], {
    namespaces: { pid: 'host', ipc: 'host', uts: 'host', network: 'host', cgroup: 'host' },
  });
  assert.equal(shared.stdout, outside);
  const own = await world.live(['busybox', 'sh', '-c', script]);
  for (const line of outside.trim().split('\n')) assert.ok(!own.stdout.includes(line), line);
});

test('processes of a container without a pid namespace die with it', {
  skip: skip || !hasControllers,
}, async () => {
  await using world = await World.open();
  const id = await world.up(['sh', '-c', 'sleep 4711 & sleep 4712 & echo $! > /tmp/pid; exit 0'], {
    namespaces: { pid: 'host', ipc: 'private', uts: 'private', network: 'private', cgroup: 'private' },
  });
  await world.exit(id);
  const pid = Number(execFileSync('cat', [join(world.rootfs, 'tmp/pid')], { encoding: 'utf8' }));
  assert.ok(isAlive(pid));
  await world.runtime.delete(id);
  assert.ok(!isAlive(pid));
});

test('ulimits and the OOM score, as far as the host lets us', { skip }, async () => {
  await using world = await World.open();
  const { stdout } = await world.live(['sh', '-c', 'ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj'], {
    process: { rlimits: [{ name: 'nofile', soft: 99, hard: 100 }], oomScoreAdj: 500 },
  });
  assert.equal(stdout, '99\n100\n500\n');
  if (capabilities().includes('CAP_SYS_RESOURCE')) return;
  for (const process of [
    { oomScoreAdj: -500 },
    { rlimits: [{ name: 'nofile', soft: 1 << 20, hard: 1 << 20 }] },
  ]) {
    await assert.rejects(world.runtime.create(world.spec(['true'], { process })), {
      message: /^failed to create shim task: OCI runtime create failed: .*: unknown$/,
    });
  }
});

test('limits are in the cgroup', {
  skip: skip || (hasControllers ? false : 'needs controllers'),
}, async () => {
  await using world = await World.open();
  const resources = {
    memoryBytes: 32 << 20,
    pidsLimit: 7,
    cpuQuota: 20_000,
    cpuPeriod: 100_000,
    cpuShares: 512,
  };
  const id = await world.up(['sleep', '60'], { resources });
  const read = (controller: string, old: string, unified: string) => {
    const mount = world.cgroups.mounts.get(world.cgroups.version === 1 ? controller : 'unified') ?? '';
    const path = join(mount, world.cgroupParent, id, world.cgroups.version === 1 ? old : unified);
    return execFileSync('cat', [path], { encoding: 'utf8' }).trim();
  };
  assert.equal(read('memory', 'memory.limit_in_bytes', 'memory.max'), String(32 << 20));
  assert.equal(read('pids', 'pids.max', 'pids.max'), '7');
  assert.match(read('cpu', 'cpu.cfs_quota_us', 'cpu.max'), /^20000/);
});

test('an OOM kill is told', { skip: skip || (hasControllers ? false : 'needs controllers') }, async () => {
  await using world = await World.open();
  const { exit } = await world.live(
    ['sh', '-c', 'head -c 100000000 /dev/zero | tail -c 99999999 > /dev/null; x=$(yes)'],
    {
      resources: { memoryBytes: 16 << 20, memorySwapBytes: 16 << 20 },
    },
  );
  assert.deepEqual([exit.exitCode, exit.wasOomKilled], [137, true]);
});

test('the monitor is in a cgroup of its own, beside the container', { skip }, async () => {
  await using world = await World.open();
  const id = await world.up(['sleep', '60']);
  const pid = execFileSync('cat', [join(world.execRoot, 'bundles', id, 'conmon.pid')], { encoding: 'utf8' });
  const groups = execFileSync('cat', [`/proc/${pid}/cgroup`], { encoding: 'utf8' });
  assert.match(groups, new RegExp(`^0::${world.cgroupParent}/conmon-${id}$`, 'm'));
});

test(`versions, names and warnings (${runtimeName})`, { skip }, async () => {
  await using world = await World.open();
  const versions = await world.runtime.versions();
  assert.match(versions[runtimeName] ?? '', /^\d+\.\d+/);
  assert.ok(world.runtime.names().includes(runtimeName));
  assert.equal(world.runtime.defaultName, runtimeName);
});
