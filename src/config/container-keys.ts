import * as z from 'zod/mini';
import { absolute, choice, sizeFrom, text, texts, toggle, ulimits } from './checks.ts';
import { keyFacts } from './key-facts.ts';

/** `soft[:hard]`; what is no number is for the check to refuse. */
function ulimitOf(value: string): { Soft: number; Hard: number } {
  const [soft = '', hard = soft] = value.split(':');
  return { Soft: Number(soft || 'NaN'), Hard: Number(hard || 'NaN') };
}

/** What containers get that say nothing of it themselves. */
export const containerKeys = {
  init: z._default(toggle, false).register(keyFacts, {
    flag: 'init',
    takes: 'switch',
    about: 'Run an init process in containers, which reaps what is orphaned and passes signals on',
  }),
  'init-path': z.optional(text('a path')).register(keyFacts, {
    flag: 'init-path',
    takes: 'value',
    argument: 'PATH',
    fallback: 'docker-init, or else tini-static',
    about: 'The program that is the init process; linked statically',
  }),
  experimental: z._default(toggle, false).register(keyFacts, {
    flag: 'experimental',
    takes: 'switch',
    about: 'Offer checkpoints of containers, which need CRIU',
  }),
  'no-new-privileges': z._default(toggle, false).register(keyFacts, {
    flag: 'no-new-privileges',
    takes: 'switch',
    about: 'Processes in containers cannot gain privileges, unless --security-opt no-new-privileges=false',
  }),
  'default-shm-size': z._default(text('a size').check(sizeFrom('1k')), '64m').register(keyFacts, {
    flag: 'default-shm-size',
    takes: 'value',
    argument: 'SIZE',
    about: 'Size of /dev/shm in containers',
  }),
  'default-ipc-mode': z._default(choice('private', 'shareable'), 'private').register(keyFacts, {
    flag: 'default-ipc-mode',
    takes: 'value',
    argument: 'MODE',
    about: 'Whether others may join the IPC namespace of a container: private or shareable',
  }),
  'default-cgroupns-mode': z.optional(choice('host', 'private')).register(keyFacts, {
    flag: 'default-cgroupns-mode',
    takes: 'value',
    argument: 'MODE',
    fallback: 'private with cgroup v2, host with v1',
    about: 'Whether containers have a cgroup namespace of their own: private or host',
  }),
  'default-ulimits': z._default(ulimits, {}).register(keyFacts, {
    flag: 'default-ulimit',
    takes: 'values',
    entryOf: ulimitOf,
    argument: 'NAME=SOFT[:HARD]',
    about:
      'Limits of processes in containers that do not set them, by their names in setrlimit(2): nofile=1024:4096',
  }),
  'seccomp-profile': z._default(text('builtin, unconfined or a path'), 'builtin').register(keyFacts, {
    flag: 'seccomp-profile',
    takes: 'value',
    argument: 'PROFILE',
    about:
      'The system calls that containers may make: builtin, unconfined or the path of a profile, read at start-up',
  }),
  'cdi-spec-dirs': z._default(texts('paths', absolute), ['/etc/cdi', '/var/run/cdi']).register(keyFacts, {
    flag: 'cdi-spec-dir',
    takes: 'values',
    argument: 'PATH',
    about:
      'Directory with files of the Container Device Interface, by which --gpus and --device find devices',
  }),
} as const;
