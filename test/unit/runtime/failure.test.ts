import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fail } from '../../../src/errors.ts';
import { ociFailure, startExitCode } from '../../../src/runtime/failure.ts';

const create = 'failed to create shim task: OCI runtime create failed: ';
const runc = 'runc create failed: unable to start container process: exec: ';

// complaint, command, message, status, exit code
const table: [string, string, string, number, number][] = [
  [
    `${runc}"/nosuch": stat /nosuch: no such file or directory\n`,
    '/nosuch',
    `${create}${runc}"/nosuch": stat /nosuch: no such file or directory: unknown`,
    400,
    127,
  ],
  [
    'executable file `/nosuch` not found in $PATH: No such file or directory\n',
    '/nosuch',
    `${create}${runc}"/nosuch": stat /nosuch: no such file or directory: unknown`,
    400,
    127,
  ],
  [
    'executable file `/nosuch` not found: No such file or directory',
    '/nosuch',
    `${create}${runc}"/nosuch": stat /nosuch: no such file or directory: unknown`,
    400,
    127,
  ],
  [
    'executable file `x` not found in $PATH: No such file or directory',
    'x',
    `${create}${runc}"x": executable file not found in $PATH: unknown`,
    400,
    127,
  ],
  [
    `time="2026-11-20T20:31:00Z" level=warning msg="lstat /sys: hm"\ntime="2026-11-20T20:31:00Z" level=error msg="${runc.replaceAll('"', '\\"')}\\"/etc\\": permission denied"`,
    '/etc',
    `${create}${runc}"/etc": permission denied: unknown`,
    400,
    126,
  ],
  [
    'open executable: Permission denied',
    '/etc',
    `${create}${runc}"/etc": permission denied: unknown`,
    400,
    126,
  ],
  [
    'open executable: Operation not permitted',
    '/etc',
    `${create}${runc}"/etc": permission denied: unknown`,
    400,
    126,
  ],
  [
    'the path `/x` exists but it is not executable: Operation not permitted',
    '/x',
    `${create}${runc}"/x": permission denied: unknown`,
    400,
    126,
  ],
  [
    `${runc}"/etc": is a directory`,
    '/etc',
    `${create}${runc}"/etc": is a directory: unknown: permission denied`,
    400,
    126,
  ],
  [
    '{"level":"error","msg":"runc create failed: mount /a: not a directory","time":"t"}',
    'sh',
    `${create}runc create failed: mount /a: not a directory: unknown: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type`,
    400,
    127,
  ],
  [
    'runc create failed: sysctl "a.b" is not in a separate kernel namespace',
    'sh',
    `${create}runc create failed: sysctl "a.b" is not in a separate kernel namespace: unknown`,
    500,
    128,
  ],
  ['', 'sh', `${create}no reason given: unknown`, 500, 128],
];

for (const [complaint, command, message, status, exitCode] of table) {
  test(`create: ${JSON.stringify(complaint.slice(0, 70))}`, () => {
    const failure = ociFailure('create', complaint, command);
    assert.deepEqual(
      { message: failure.message, status: failure.status, exitCode: startExitCode(failure) },
      { message, status, exitCode },
    );
    assert.equal(failure.cause, complaint);
  });
}

test('exec has a frame and an exit code of its own', () => {
  const wording = 'OCI runtime exec failed: exec failed: unable to start container process: exec: ';
  for (const complaint of [
    'exec failed: unable to start container process: exec: "/nosuch": stat /nosuch: no such file or directory',
    'executable file `/nosuch` not found in $PATH: No such file or directory',
  ]) {
    const failure = ociFailure('exec', complaint, '/nosuch');
    assert.equal(failure.message, `${wording}"/nosuch": stat /nosuch: no such file or directory: unknown`);
    assert.deepEqual([failure.status, failure.exitCode], [400, 127]);
  }
  assert.equal(ociFailure('exec', 'cannot exec in a stopped container', 'sh').exitCode, 126);
});

test('other failures say no exit code', () => {
  assert.equal(startExitCode(fail.runtime('x')), undefined);
  assert.equal(startExitCode(undefined), undefined);
});
