import assert from 'node:assert/strict';
import { test } from 'node:test';
import { applyChanges } from '../../../src/engine/config-changes.ts';
import type { ContainerConfig } from '../../../src/engine/model.ts';
import { createRequest } from '../../support/container-requests.ts';

const plain: ContainerConfig = { ...createRequest().config, env: ['PATH=/bin'], workingDir: '/srv' };

/** What the instructions changed. */
function changed(lines: string[], config: ContainerConfig = plain): Partial<ContainerConfig> {
  const after = Object.entries(applyChanges(config, lines));
  const before = new Map<string, unknown>(Object.entries(config));
  return Object.fromEntries(after.filter(([key, value]) => value !== before.get(key)));
}

function refused(line: string, message: string): void {
  assert.throws(() => applyChanges(plain, [line]), { status: 400, message });
}

test('each instruction changes what it is about', () => {
  assert.deepEqual(
    changed([
      'CMD ["a", "$b"]',
      'ENTRYPOINT exec it',
      'ENV PATH=$PATH:/x NEW="a b"',
      'LABEL k=$NEW',
      'EXPOSE 80 $PORT 7000-7001/udp',
      'USER me',
      'VOLUME /a ["/b"]',
      'WORKDIR sub',
      'WORKDIR dir',
      'STOPSIGNAL SIGINT',
      'ONBUILD RUN make all',
      'HEALTHCHECK --interval=1m --timeout=500ms --retries=3 CMD probe it',
    ]),
    {
      cmd: ['a', '$b'],
      entrypoint: ['/bin/sh', '-c', 'exec it'],
      env: ['PATH=/bin:/x', 'NEW=a b'],
      labels: { ...plain.labels, k: 'a b' },
      exposedPorts: { ...plain.exposedPorts, '80/tcp': {}, '7000/udp': {}, '7001/udp': {} },
      user: 'me',
      volumes: { ...plain.volumes, '/a': {}, '[/b]': {} },
      workingDir: '/srv/sub/dir',
      stopSignal: 'SIGINT',
      onBuild: ['RUN make all'],
      healthcheck: { test: ['CMD-SHELL', 'probe it'], interval: 60e9, timeout: 500e6, retries: 3 },
    },
  );
});

test('an entrypoint drops a command that came before it', () => {
  const config = { ...plain, cmd: ['old'] };
  assert.deepEqual(changed(['ENTRYPOINT ["x"]'], config), { entrypoint: ['x'], cmd: null });
  assert.deepEqual(changed(['CMD ["new"]', 'ENTRYPOINT ["x"]'], config), { entrypoint: ['x'], cmd: ['new'] });
});

test('a shell of its own counts', () => {
  assert.deepEqual(changed(['CMD x'], { ...plain, shell: ['/bin/ash', '-ec'] }), {
    cmd: ['/bin/ash', '-ec', 'x'],
  });
});

test('what makes no sense is refused in dockerd’s words', () => {
  refused('RUN x', 'run is not a valid change command');
  refused('constructor x', 'constructor is not a valid change command');
  refused('EXPOSE', 'EXPOSE requires at least one argument');
  refused('EXPOSE abc', 'invalid containerPort: abc');
  refused('EXPOSE 80/abc', 'invalid proto: abc');
  refused('EXPOSE 70000', 'invalid containerPort: 70000');
  refused('USER', 'USER requires exactly one argument');
  refused('USER --x=y me', 'Unknown flag: x');
  refused('STOPSIGNAL NONE', 'invalid signal: NONE');
  refused('ENV =x', 'ENV names can not be blank');
  refused('ENV a', 'ENV must have two arguments');
  refused('VOLUME [""]', 'VOLUME specified can not be an empty string');
  refused('ONBUILD ONBUILD RUN x', "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
  refused('ONBUILD FROM x', "FROM isn't allowed as an ONBUILD trigger");
  refused('HEALTHCHECK x', 'Unknown type "X" in HEALTHCHECK (try CMD)');
  refused('HEALTHCHECK CMD', 'Missing command after HEALTHCHECK CMD');
  refused('HEALTHCHECK NONE x', 'HEALTHCHECK NONE takes no arguments');
  refused('HEALTHCHECK --interval=1us CMD x', 'Interval "interval" cannot be less than 1ms');
  refused('HEALTHCHECK --interval=x CMD x', 'time: invalid duration "x"');
  refused('HEALTHCHECK --retries=-1 CMD x', '--retries cannot be negative (-1)');
  refused('', 'file with no instructions');
});
