import assert from 'node:assert/strict';
import { json } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openStream } from '../support/archives.ts';
import { allowed } from './allowed.ts';
import { differences, describe as inWords, partsOf } from './differences.ts';
import { type Both, openPair, type Pair, type Side } from './pair.ts';

/** What inspect says of a container in each state: the same keys with the same values as dockerd's. */
let pair: Pair | undefined;
let reason = '';

before(async () => {
  ({ pair, reason } = await openPair());
});

after(async () => {
  await pair?.engine.clear();
  await pair?.[Symbol.asyncDispose]();
});

type Parts = ReturnType<typeof partsOf>;

interface Inspected {
  readonly ExecIDs: unknown;
  readonly State: { readonly Health?: { readonly Status: string; readonly Log: unknown[] } };
}

/** Command lines, the first of which makes a container of the row's name; and what is waited for before it is looked at. */
const rows: readonly {
  readonly name: string;
  readonly lines: readonly string[];
  readonly isReady?: (seen: Inspected) => boolean;
}[] = [
  { name: 'created', lines: ['create box:1 true'] },
  { name: 'running', lines: ['run -d box:1 sleep 1000'] },
  { name: 'tty', lines: ['run -d -it --network none --hostname h.org -u alice -w /www box:1 sleep 1000'] },
  { name: 'paused', lines: ['run -d --network none box:1 sleep 1000', 'pause paused'] },
  { name: 'exited', lines: ['run -p 127.0.0.1:18087:80 box:1 false'] },
  { name: 'killed', lines: ['run -d --network none box:1 sleep 1000', 'kill killed'] },
  { name: 'failed', lines: ['run --network none box:1 nothing-of-that-name'] },
  { name: 'full', lines: ['create full:1'] },
  { name: 'written', lines: ['run --network none box:1 sh -c "echo>/x;ln -s /long/target /etc/l;ln /x /y"'] },
  {
    name: 'limited',
    lines: [
      [
        'run -d --network none -m 64m --memory-reservation 32m --cpus 0.5 --pids-limit 33 --cpu-shares 99',
        '--ulimit nofile=99:199 --restart on-failure:3 --oom-score-adj 5 --init --read-only --cap-add NET_ADMIN',
        '--cap-drop MKNOD --security-opt no-new-privileges --security-opt seccomp=unconfined --group-add 20',
        '--device /dev/zero:/dev/zeros:r --sysctl net.core.somaxconn=77 --log-opt max-size=1m --dns 10.9.8.7',
        '--add-host a:10.1.2.3 --stop-signal INT --stop-timeout 3 box:1 sleep 1000',
      ].join(' '),
    ],
  },
  {
    name: 'mounts',
    lines: [
      [
        'run -d --network none -v mounts-v:/www -v {places}/binds:/b:ro,rslave --tmpfs /t:size=1m -v /anonymous',
        '--mount type=tmpfs,dst=/u,tmpfs-size=65536 --mount type=bind,src={places}/shared,dst=/s,readonly',
        '--mount type=volume,src=mounts-w,dst=/w,volume-nocopy,volume-label=a=b box:1 sleep 1000',
      ].join(' '),
    ],
  },
  {
    name: 'checked',
    lines: [
      [
        'run -d --network none --health-cmd true --health-interval 100ms --health-timeout 5s --health-retries 2',
        '--health-start-period 1s box:1 sleep 1000',
      ].join(' '),
    ],
    isReady: ({ State: { Health } }) => Health?.Status === 'healthy',
  },
  {
    name: 'privileged',
    lines: ['run -d --network host --pid host --ipc host --uts host --privileged box:1 sleep 1000'],
  },
  { name: 'brief', lines: ['run -d --rm --network none box:1 sleep 1000'] },
  { name: 'execs', lines: ['run -d --network none box:1 sleep 1000', 'exec -d execs sleep 1000'] },
];

describe('inspected as by dockerd', { concurrency: 3 }, () => {
  for (const row of rows)
    test(row.name, async (t) => {
      if (pair === undefined) return t.skip(reason);
      await pair.both(async (side) => {
        for (const [at, line] of row.lines.entries()) {
          const words = line.replaceAll('{places}', side.places).match(/"[^"]*"|\S+/g) ?? [];
          const [verb = '', ...rest] = words.map((word) => word.replaceAll('"', ''));
          await side.docker([verb, ...(at === 0 ? ['--name', row.name] : []), ...rest]);
        }
      });
      for (const version of ['1.41', '1.39', '1.24']) {
        const path = `/v${version}/containers/${row.name}/json?size=1`;
        const seen: Both<Parts> = await pair.both((side) => parts(side, path, row.isReady));
        const found = differences(seen).filter(
          ({ part, line }) => !allowed.some((rule) => rule.part === part && rule.line.test(line)),
        );
        assert.equal(found.length, 0, `API ${version}, - dockerd, + skerry:\n${inWords(found)}`);
      }
    });
});

async function parts(side: Side, path: string, isReady: (typeof rows)[number]['isReady']): Promise<Parts> {
  const inspect = await inspected(side, path, isReady);
  return partsOf(side, { code: '', stdout: '', stderr: '', inspect });
}

async function inspected(
  side: Side,
  path: string,
  isReady: (seen: Inspected) => boolean = () => true,
): Promise<Inspected> {
  for (; ; await sleep(50)) {
    const answer = await openStream(side.socket, path);
    const seen = (await json(answer)) as Inspected;
    assert.equal(answer.statusCode, 200, JSON.stringify(seen));
    if (!isReady(seen)) continue;
    seen.State.Health?.Log.splice(1); // how many there are by now is chance
    return seen.State.Health === undefined ? seen : { ...seen, ExecIDs: null }; // to dockerd a check is an exec
  }
}
