import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_CAPABILITIES } from '../../../src/runtime/capabilities.ts';
import { defaultSeccomp, seccompFrom } from '../../../src/runtime/seccomp.ts';
import type { OciSeccomp, SeccompSubject } from '../../../src/runtime/seccomp-rules.ts';

const subject: SeccompSubject = {
  architecture: 'amd64',
  kernel: '6.1.0-13-amd64',
  capabilities: DEFAULT_CAPABILITIES,
};
const withCap = (...names: string[]): SeccompSubject => ({
  ...subject,
  capabilities: [...DEFAULT_CAPABILITIES, ...names],
});

/** Whether a call is let through, whatever its arguments. */
function isOpen({ syscalls }: OciSeccomp, name: string): boolean {
  return syscalls.some(
    ({ names, action, args }) => names.includes(name) && action === 'SCMP_ACT_ALLOW' && args === undefined,
  );
}

const rulesFor = ({ syscalls }: OciSeccomp, name: string) =>
  syscalls.filter(({ names }) => names.includes(name));

test('the default refuses with EPERM, and lets ordinary calls through', () => {
  const filter = defaultSeccomp(subject);
  assert.equal(filter.defaultAction, 'SCMP_ACT_ERRNO');
  for (const name of ['read', 'openat2', 'execve', 'futex_waitv', 'statx', 'close_range', 'ptrace'])
    assert.ok(isOpen(filter, name), name);
  for (const name of [
    'mount',
    'unshare',
    'setns',
    'bpf',
    'io_uring_setup',
    'keyctl',
    'add_key',
    'kexec_load',
  ])
    assert.deepEqual(rulesFor(filter, name), [], name);
});

test('capabilities open up what they are for', () => {
  for (const [capability, names] of [
    ['CAP_SYS_ADMIN', ['mount', 'setns', 'clone', 'clone3', 'bpf']],
    ['CAP_SYS_PTRACE', ['process_madvise', 'kcmp']],
    ['CAP_SYS_MODULE', ['init_module']],
    ['CAP_BPF', ['bpf']],
    ['CAP_PERFMON', ['perf_event_open']],
    ['CAP_DAC_READ_SEARCH', ['open_by_handle_at']],
    ['CAP_SYS_TIME', ['clock_settime64']],
    ['CAP_SYSLOG', ['syslog']],
  ] as const) {
    for (const name of names) {
      assert.ok(!isOpen(defaultSeccomp(subject), name), name);
      assert.ok(isOpen(defaultSeccomp(withCap(capability)), name), name);
    }
  }
});

test('without CAP_SYS_ADMIN clone makes no namespaces and clone3 is as if it did not exist', () => {
  const filter = defaultSeccomp(subject);
  assert.deepEqual(rulesFor(filter, 'clone'), [
    {
      names: ['clone'],
      action: 'SCMP_ACT_ALLOW',
      args: [{ index: 0, value: 0x7e020000, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }],
    },
  ]);
  assert.deepEqual(rulesFor(filter, 'clone3'), [
    { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 },
  ]);
  assert.ok(rulesFor(defaultSeccomp(withCap('CAP_SYS_ADMIN')), 'clone3').every(({ errnoRet }) => !errnoRet));
});

test('personality has five values, sockets all families but two', () => {
  const filter = defaultSeccomp(subject);
  const values = rulesFor(filter, 'personality').map(({ args }) => args?.[0]?.value);
  assert.deepEqual(values, [0, 8, 0x20000, 0x20008, 0xffffffff]);
  const holds = (family: number) =>
    rulesFor(filter, 'socket').some(({ args }) => {
      const [{ op, value } = { op: '', value: 0 }] = args ?? [];
      return op === 'SCMP_CMP_LT' ? family < value : op === 'SCMP_CMP_GT' ? family > value : family === value;
    });
  const refused = Array.from({ length: 64 }, (_, family) => family).filter((family) => !holds(family));
  assert.deepEqual(refused, [38, 40]); // AF_ALG, AF_VSOCK
});

test('architectures bring their older siblings; some calls are theirs alone', () => {
  const at = (architecture: string) => defaultSeccomp({ ...subject, architecture });
  assert.deepEqual(at('amd64').architectures, ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32']);
  assert.deepEqual(at('arm64').architectures, ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM']);
  assert.equal(at('arm').architectures, undefined);
  assert.ok(isOpen(at('amd64'), 'arch_prctl') && !isOpen(at('arm64'), 'arch_prctl'));
  assert.ok(isOpen(at('arm'), 'cacheflush') && !isOpen(at('amd64'), 'cacheflush'));
  assert.ok(isOpen(at('386'), 'modify_ldt'));
});

test('before Linux 4.8 ptrace needs its capability', () => {
  assert.ok(!isOpen(defaultSeccomp({ ...subject, kernel: '4.4.0' }), 'ptrace'));
  assert.ok(isOpen(defaultSeccomp({ ...withCap('CAP_SYS_PTRACE'), kernel: '4.4.0' }), 'ptrace'));
  assert.ok(isOpen(defaultSeccomp({ ...subject, kernel: '4.9.337-tegra' }), 'ptrace'));
  assert.ok(isOpen(defaultSeccomp({ ...subject, kernel: '10.0' }), 'ptrace'));
});

test("a profile in Docker's format is compiled for the container", () => {
  const profile = {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: 1,
    archMap: [
      { architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86'] },
      { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: null },
    ],
    syscalls: [
      { names: ['read', 'write'], action: 'SCMP_ACT_ALLOW', args: null, comment: 'plain' },
      { name: 'mount', action: 'SCMP_ACT_ALLOW', includes: { caps: ['CAP_SYS_ADMIN'] }, excludes: {} },
      { names: ['clone'], action: 'SCMP_ACT_ALLOW', excludes: { caps: ['CAP_SYS_ADMIN'], arches: ['s390'] } },
      { names: ['open'], action: 'SCMP_ACT_ALLOW', includes: { arches: ['amd64'], minKernel: '4.8' } },
      { names: ['old'], action: 'SCMP_ACT_ALLOW', excludes: { minKernel: '4.8' } },
    ],
  };
  const filter = seccompFrom(JSON.stringify(profile), subject);
  assert.deepEqual(filter, {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: 1,
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'],
    syscalls: [
      { names: ['read', 'write'], action: 'SCMP_ACT_ALLOW' },
      { names: ['clone'], action: 'SCMP_ACT_ALLOW' },
      { names: ['open'], action: 'SCMP_ACT_ALLOW' },
    ],
  });
  assert.equal(seccompFrom('{}', subject), undefined);
});

test('what is no profile is refused, with the reason', () => {
  for (const text of [
    '{',
    '[]',
    '"x"',
    'null',
    '{"syscalls":{}}',
    '{"syscalls":[1]}',
    '{"defaultAction":"SCMP_ACT_ALLOW","architectures":["a"],"archMap":[{"architecture":"b"}]}',
    '{"syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}',
  ]) {
    assert.throws(
      () => seccompFrom(text, subject),
      { status: 500, message: /^Decoding seccomp profile failed: / },
      text,
    );
  }
});
