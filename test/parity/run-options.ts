/** Words of a command line, in one string where no blank is in a word. */
export type Words = string | readonly string[];

/** A command line that both engines are given. */
export interface RunOption {
  readonly name: string;
  /**
   * Of `docker run`, before the image. In all words `{name}` is the container's, `{places}` a directory of the host,
   * with `binds/` and `shared/`.
   */
  readonly args?: Words;
  /** By default `box:1`. */
  readonly image?: string;
  /** What follows the image; instead of the script. */
  readonly command?: Words;
  /** Run by a shell in the container, before the facts. */
  readonly script?: string;
  /** Has the default network, which takes time to make; without it, none. */
  readonly hasNetwork?: true;
  readonly input?: string;
  /** Other command lines, before and after; what they print counts too. Containers and volumes of theirs begin with `{name}-`. */
  readonly before?: readonly Words[];
  readonly after?: readonly Words[];
  /** The container just sleeps, and the script or command is given to `docker exec` with these arguments. */
  readonly exec?: Words;
  /** Parts that say nothing: they show all of the host, or what chance made. */
  readonly ignores?: readonly string[];
}

const processes: readonly RunOption[] = [
  { name: 'plain' },
  { name: 'user by name', args: '-u alice' },
  { name: 'user by number', args: '-u 1000' },
  { name: 'user unknown to the image', args: '-u 4242' },
  { name: 'user and group', args: '-u alice:dialout' },
  { name: 'user and group by number', args: '-u 1000:77' },
  { name: 'group alone', args: '-u :20' },
  { name: 'root by number', args: '-u 0:0' },
  { name: 'group-add', args: '-u alice --group-add dialout --group-add 4711' },
  { name: 'workdir', args: '-w /www' },
  { name: 'workdir missing', args: '-w /made/for/it' },
  { name: 'workdir missing of a user', args: '-w /made -u alice' },
  { name: 'environment', args: ['-e', 'ONE=1', '-e', 'TWO=a b=c', '-e', 'EMPTY=', '-e', 'NOT_SET_HERE'] },
  { name: 'environment over the image', args: '-e PATH=/bin -e HOME=/www -e HOSTNAME=h' },
  { name: 'env-file', args: '--env-file {places}/binds/variables' },
  { name: 'hostname', args: '--hostname box.example.org --domainname example.org' },
  {
    name: 'tty',
    args: '-t',
    command: [
      'sh',
      '-c',
      'tty; stty size; echo $TERM; ls -l /dev/console | cut -c1-40; cat /proc/self/mountinfo | grep -c /dev/console',
    ],
  },
  { name: 'tty facts', args: '-t' },
  { name: 'input', args: '-i', input: 'some\nlines\n', command: 'cat' },
  { name: 'input counted', args: '-i', input: 'x'.repeat(300_000), command: 'wc -c' },
  { name: 'no input', command: 'cat' },
  { name: 'both outputs', command: ['sh', '-c', 'echo out; echo err >&2; echo out again'] },
  { name: 'rm', args: '--rm', command: ['sh', '-c', 'echo here; exit 7'] },
  { name: 'exit 1', command: 'false' },
  { name: 'exit 3', command: ['sh', '-c', 'exit 3'] },
  { name: 'exit 255', command: ['sh', '-c', 'exit 255'] },
  { name: 'killed by itself', command: ['sh', '-c', 'sh -c "kill -9 \\$PPID"; kill -TERM $$; echo lives'] },
  { name: 'killed child', command: ['sh', '-c', 'sh -c "kill -SEGV \\$\\$"; echo $?'] },
  { name: 'command missing', command: 'nothing-of-that-name' },
  { name: 'command missing by path', command: '/no/such/program' },
  { name: 'command not executable', command: '/etc/passwd' },
  { name: 'command is a directory', command: '/etc' },
  { name: 'entrypoint', args: '--entrypoint /bin/echo', command: ['a', 'b c'] },
  { name: 'entrypoint of the image', image: 'full:1', command: 'by hand' },
  { name: 'command of the image', image: 'full:1', command: [] },
  { name: 'entrypoint emptied', image: 'full:1', args: ['--entrypoint', ''], command: 'id' },
  {
    name: 'entrypoint replaced forgets the command',
    image: 'full:1',
    args: '--entrypoint /bin/echo',
    command: [],
  },
  {
    name: 'all of the image',
    image: 'full:1',
    args: '--entrypoint /bin/sh',
    command: [
      '-c',
      'id; pwd; env | sort; cat /data/kept; stat -c "%n %a %u:%g" /data /srv/new; ls -ln /data | sed "s/  */ /g" | cut -d" " -f 1-4',
    ],
  },
  { name: 'no command', image: 'bare:1', command: [] },
  { name: 'no environment in the image', image: 'bare:1', command: ['/bin/sh', '-c', 'env | /bin/sort'] },
  { name: 'init', args: '--init' },
  { name: 'init reaps', args: '--init', command: ['sh', '-c', '(sleep 0 &) ; usleep 50000; exit 5'] },
  { name: 'stop signal', args: '--stop-signal SIGUSR2 --stop-timeout 3' },
  { name: 'oom-score-adj', args: '--oom-score-adj 321' },
  { name: 'labels', args: '-l a=b -l empty -l both=run', image: 'full:1', command: 'x' },
  { name: 'no healthcheck', args: '--no-healthcheck', image: 'full:1', command: 'x' },
  {
    name: 'healthcheck',
    args: [
      '--health-cmd',
      'exit 0',
      '--health-interval',
      '2h',
      '--health-timeout',
      '3s',
      '--health-retries',
      '4',
      '--health-start-period',
      '5s',
    ],
    command: 'true',
  },
  {
    name: 'log-driver none',
    args: '--log-driver none',
    command: ['echo', 'attached all the same'],
    after: ['logs {name}'],
  },
  {
    name: 'log-opts',
    args: '--log-opt max-size=1m --log-opt max-file=3',
    command: 'echo x',
    after: ['logs {name}'],
  },
  {
    name: 'restart on failure',
    args: '--restart on-failure:1',
    command: ['sh', '-c', 'echo tried; exit 4'],
    ignores: ['stdout', 'inspect'],
  },
  {
    name: 'detached',
    args: '-d',
    command: 'echo hello',
    ignores: ['inspect'],
    after: ['wait {name}', 'logs {name}'],
  },
  { name: 'attach stdout alone', args: '-a stdout', command: ['sh', '-c', 'echo out; echo err >&2'] },
  { name: 'sig-proxy and detach keys', args: '--sig-proxy=false --detach-keys ctrl-x,x', command: 'true' },
];

const security: readonly RunOption[] = [
  { name: 'cap-add', args: '--cap-add NET_ADMIN --cap-add cap_sys_time' },
  { name: 'cap-drop', args: '--cap-drop CHOWN --cap-drop mknod' },
  { name: 'cap-drop ALL', args: '--cap-drop ALL' },
  { name: 'cap-drop ALL and add', args: '--cap-drop ALL --cap-add CHOWN --cap-add NET_RAW' },
  { name: 'cap-add ALL', args: '--cap-add ALL' },
  { name: 'cap-add ALL and drop', args: '--cap-add ALL --cap-drop SYS_ADMIN --cap-drop SYS_PTRACE' },
  { name: 'capabilities of a user', args: '-u alice --cap-add NET_ADMIN' },
  { name: 'ALL capabilities of a user', args: '-u alice --cap-add ALL' },
  { name: 'privileged', args: '--privileged' },
  { name: 'privileged of a user', args: '--privileged -u alice' },
  { name: 'privileged and read-only', args: '--privileged --read-only' },
  { name: 'privileged and cap-drop', args: '--privileged --cap-drop NET_ADMIN' },
  { name: 'seccomp unconfined', args: '--security-opt seccomp=unconfined' },
  {
    name: 'seccomp of a file',
    args: '--security-opt seccomp={places}/binds/seccomp.json',
    script: 'mkdir /tmp/x',
  },
  {
    name: 'seccomp refuses',
    script:
      'mount -t tmpfs x /tmp; unshare 2>&1 | head -1; chmod 4755 /bin/sh; mknod /tmp/n c 1 3 2>&1; hostname x; date -s 2030-01-01',
  },
  {
    name: 'seccomp with SYS_ADMIN',
    args: '--cap-add SYS_ADMIN',
    script: 'mount -t tmpfs x /tmp && echo mounted; hostname new && hostname',
  },
  { name: 'no-new-privileges', args: '--security-opt no-new-privileges' },
  { name: 'no-new-privileges of a user', args: '--security-opt no-new-privileges:true -u alice' },
  { name: 'apparmor unconfined', args: '--security-opt apparmor=unconfined' },
  { name: 'label disabled', args: '--security-opt label=disable' },
  {
    name: 'systempaths unconfined',
    args: '--security-opt systempaths=unconfined',
    script: 'test -s /proc/timer_list && echo readable',
    ignores: ['masked'],
  },
  { name: 'read-only', args: '--read-only', script: 'touch /x /tmp/x /dev/shm/x /run/x /etc/hosts' },
  {
    name: 'devices',
    args: '--device /dev/full:/dev/other --device /dev/zero:/dev/zeros:r',
    script: 'head -c 1 /dev/zeros | wc -c; echo x > /dev/zeros; echo x > /dev/other',
  },
  {
    name: 'device-cgroup-rule',
    args: ['--device-cgroup-rule', 'c 188:* rw', '--device-cgroup-rule', 'b *:* m'],
  },
  { name: 'device fuse alone', args: ['--device-cgroup-rule', 'c 10:229 rwm', '--cap-add', 'MKNOD'] },
  { name: 'userns host', args: '--userns host' },
];

const files: readonly RunOption[] = [
  { name: 'tmpfs', args: '--tmpfs /t', script: 'df -k /t | tail -1 | cut -c1-20; stat -c "%a %u:%g" /t' },
  {
    name: 'tmpfs with options',
    args: '--tmpfs /t:rw,exec,size=1m,mode=0750,uid=1000,gid=20 --tmpfs /etc/x:ro',
    script: 'stat -c "%a %u:%g" /t',
  },
  { name: 'tmpfs over the run directory', args: '--read-only --tmpfs /run --tmpfs /tmp:noexec' },
  { name: 'shm-size', args: '--shm-size 7m' },
  { name: 'shm-size zero', args: '--shm-size 0' },
  { name: 'bind', args: '-v {places}/binds:/b', script: 'cat /b/file; echo by $$ > /b/{name}; rm /b/{name}' },
  { name: 'bind read-only', args: '-v {places}/binds:/b:ro', script: 'cat /b/file; touch /b/x' },
  { name: 'bind of a file', args: '-v {places}/binds/file:/etc/motd:ro', script: 'cat /etc/motd' },
  {
    name: 'bind of what is missing',
    args: '-v {places}/binds/{name}/new:/b',
    script: 'stat -c "%F %a %u:%g" /b',
    ignores: ['tree'],
  },
  { name: 'bind shared', args: '-v {places}/shared:/b:shared' },
  { name: 'bind rslave', args: '-v {places}/shared:/b:ro,rslave' },
  { name: 'bind private', args: '-v {places}/shared:/b:private' },
  {
    name: 'binds in binds',
    args: '-v {places}/binds:/b/c -v {places}/shared:/b/c/inner -v {places}/binds/file:/a',
  },
  { name: 'bind with z', args: '-v {places}/binds:/b:z,ro' },
  {
    name: 'bind of proc',
    args: '-v /proc:/host/proc:ro',
    ignores: ['tree', 'writable'],
    script: 'test -e /host/proc/1 && echo there',
  },
  { name: 'bind over dev shm', args: '-v {places}/binds:/dev/shm' },
  { name: 'bind over hosts', args: '-v {places}/binds/file:/etc/hosts' },
  {
    name: 'mount bind',
    args: '--mount type=bind,src={places}/binds,dst=/b,readonly,bind-propagation=rprivate',
  },
  { name: 'mount tmpfs', args: '--mount type=tmpfs,dst=/t,tmpfs-size=65536,tmpfs-mode=0700' },
  { name: 'mount tmpfs plain', args: '--mount type=tmpfs,dst=/t' },
  {
    name: 'mount volume',
    args: '--mount type=volume,src={name}-v,dst=/www,volume-nocopy',
    script: 'ls /www',
  },
  {
    name: 'named volume',
    args: '-v {name}-v:/www',
    script: 'cat /www/index.html; ls -ldn /www | cut -c1-30',
  },
  {
    name: 'named volume read-only',
    args: '-v {name}-v:/www:ro',
    script: 'cat /www/index.html; touch /www/x',
  },
  { name: 'named volume nocopy', args: '-v {name}-v:/www:nocopy', script: 'ls -a /www' },
  { name: 'volume keeps owners', args: '-v {name}-v:/home/alice', script: 'stat -c "%a %u:%g" /home/alice' },
  { name: 'anonymous volume', args: '-v /www', script: 'cat /www/index.html' },
  {
    name: 'volumes-from',
    before: ['create --name {name}-peer -v {name}-v:/www -v {places}/binds:/b:ro box:1'],
    args: '--volumes-from {name}-peer',
    script: 'ls /www; cat /b/file',
  },
  {
    name: 'volumes-from read-only',
    before: ['create --name {name}-peer -v {name}-v:/www box:1'],
    args: '--volumes-from {name}-peer:ro',
    script: 'touch /www/x',
  },
  {
    name: 'volumes of the image',
    image: 'full:1',
    args: '-u 0 --entrypoint /bin/sh',
    command: ['-c', 'cat /data/kept; cut -d" " -f5,6 /proc/self/mountinfo | grep data'],
  },
  { name: 'add-host', args: '--add-host one:10.1.2.3 --add-host six:2001:db8::1' },
  { name: 'dns', args: '--dns 10.9.8.7 --dns 10.9.8.6 --dns-search example.org --dns-option ndots:3' },
  {
    name: 'cp and diff',
    command: ['sh', '-c', 'echo x > /new; rm /www/index.html; chmod 700 /home; mkdir -p /deep/er'],
    after: ['cp {name}:/deep {places}/binds/{name}', 'cp {places}/binds/file {name}:/root/x', 'diff {name}'],
  },
];

const limits: readonly RunOption[] = [
  { name: 'ulimit', args: '--ulimit nofile=99:199 --ulimit core=0 --ulimit nproc=77' },
  { name: 'ulimit of a user', args: '-u alice --ulimit nofile=50' },
  { name: 'sysctl', args: '--sysctl kernel.shmmax=4096000 --sysctl net.core.somaxconn=77' },
  { name: 'memory', args: '-m 64m' },
  { name: 'memory and swap', args: '-m 64m --memory-swap 100m --memory-reservation 32m' },
  { name: 'memory without swap limit', args: '-m 64m --memory-swap -1' },
  { name: 'swappiness', args: '--memory-swappiness 17' },
  { name: 'oom-kill-disable', args: '-m 64m --oom-kill-disable' },
  { name: 'kernel-memory', args: '--kernel-memory 32m' },
  { name: 'cpus', args: '--cpus 0.5' },
  { name: 'cpu shares, quota, period', args: '-c 512 --cpu-quota 20000 --cpu-period 50000' },
  { name: 'cpuset', args: '--cpuset-cpus 0 --cpuset-mems 0' },
  { name: 'pids-limit', args: '--pids-limit 33' },
  { name: 'pids-limit none', args: '--pids-limit -1' },
  { name: 'blkio-weight', args: '--blkio-weight 300' },
  { name: 'device-read-bps', args: '--device-read-bps /dev/vda:1mb --device-write-iops /dev/vda:50' },
  { name: 'cgroup-parent', args: '--cgroup-parent {parent}/deeper' },
];

const namespaces: readonly RunOption[] = [
  { name: 'pid host', args: '--pid host', ignores: ['first', 'session'] },
  {
    name: 'pid of a container',
    before: ['run -d --name {name}-peer box:1 sleep 1000'],
    args: '--pid container:{name}-peer',
    ignores: ['stdout'],
  },
  { name: 'ipc host', args: '--ipc host', ignores: ['dev', 'sysctls'] },
  { name: 'ipc none', args: '--ipc none' },
  { name: 'ipc private', args: '--ipc private' },
  { name: 'ipc shareable', args: '--ipc shareable' },
  {
    name: 'ipc of a container',
    before: [
      [
        'run',
        '-d',
        '--ipc',
        'shareable',
        '--name',
        '{name}-peer',
        'box:1',
        'sh',
        '-c',
        'echo x > /dev/shm/seen; sleep 1000',
      ],
    ],
    args: '--ipc container:{name}-peer',
    ignores: ['stdout'],
    script: 'cat /dev/shm/seen',
  },
  { name: 'uts host', args: '--uts host' },
  { name: 'cgroupns private', args: '--cgroupns private' },
  { name: 'cgroupns host', args: '--cgroupns host' },
  { name: 'network host', args: '--network host', hasNetwork: true, ignores: ['network', 'etc'] },
  {
    name: 'network host and uts',
    args: '--network host --hostname other',
    hasNetwork: true,
    ignores: ['network'],
  },
  { name: 'network default', hasNetwork: true },
  { name: 'network default of a user', hasNetwork: true, args: '-u alice --hostname h.example.org' },
  {
    name: 'network of a container',
    hasNetwork: true,
    before: ['run -d --name {name}-peer --hostname peer box:1 sleep 1000'],
    args: '--network container:{name}-peer',
    ignores: ['stdout'],
  },
  { name: 'published ports', hasNetwork: true, args: '-p 127.0.0.1:18080:80 -p 18053:53/udp --expose 99' },
  {
    name: 'published exposed ports',
    hasNetwork: true,
    image: 'full:1',
    args: '-p 127.0.0.1:18081:80',
    command: 'x',
  },
];

const execs: readonly RunOption[] = [
  { name: 'exec', exec: [] },
  { name: 'exec of a user', exec: '-u alice' },
  { name: 'exec as root into a user', args: '-u alice', exec: '-u 0' },
  { name: 'exec in a container of a user', args: '-u 1000:77 --group-add 20', exec: [] },
  { name: 'exec privileged', exec: '--privileged' },
  { name: 'exec privileged of a user', exec: '--privileged -u alice' },
  { name: 'exec in a privileged container', args: '--privileged', exec: [] },
  { name: 'exec under no-new-privileges', args: '--security-opt no-new-privileges', exec: [] },
  { name: 'exec without capabilities', args: '--cap-drop ALL', exec: [] },
  { name: 'exec without seccomp', args: '--security-opt seccomp=unconfined', exec: [] },
  { name: 'exec with added capabilities', args: '--cap-add SYS_ADMIN', exec: '-u alice' },
  { name: 'exec environment', args: '-e OF=run -w /www', exec: '-e ONE=1 -e OF=exec -w /home' },
  { name: 'exec tty', exec: '-t' },
  // runc is a Go program, which may raise its own soft limit while an exec takes it over: of one number there is no such race
  {
    name: 'exec with ulimits',
    args: '--ulimit nofile=199:199 --ulimit core=7:9 --oom-score-adj 55',
    exec: [],
  },
  { name: 'exec with input', exec: '-i', input: 'to exec\n', command: 'cat' },
  { name: 'exec exit', exec: [], command: ['sh', '-c', 'echo out; echo err >&2; exit 9'] },
  { name: 'exec killed', exec: [], command: ['sh', '-c', 'kill -9 $$'] },
  { name: 'exec missing', exec: [], command: 'nothing-of-that-name' },
  { name: 'exec not executable', exec: [], command: '/etc/passwd' },
  { name: 'exec workdir missing', exec: '-w /nowhere', command: 'pwd' },
  { name: 'exec user unknown', exec: '-u nobody-here', command: 'id' },
  { name: 'exec detached', exec: '-d', command: 'true', ignores: ['inspect'] },
  { name: 'exec beside init', args: '--init', exec: [] },
];

export const runOptions: readonly RunOption[] = [
  ...processes,
  ...security,
  ...files,
  ...limits,
  ...namespaces,
  ...execs,
];
