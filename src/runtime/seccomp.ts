import { readFileSync } from 'node:fs';
import { fail, messageOf } from '../errors.ts';
import { defaultArchitectures, defaultRules } from './seccomp-default.ts';
import {
  compile,
  type OciSeccomp,
  type SeccompArgument,
  type SeccompCondition,
  type SeccompRule,
  type SeccompSubject,
} from './seccomp-rules.ts';

/** The filter that containers get unless told otherwise. */
export function defaultSeccomp(subject: SeccompSubject): OciSeccomp {
  const architectures = defaultArchitectures[subject.architecture];
  return {
    defaultAction: 'SCMP_ACT_ERRNO', // with EPERM, where no other number is given
    ...(architectures !== undefined && { architectures: [...architectures] }),
    syscalls: compile(defaultRules, subject),
  };
}

/** Reads what a daemon is told of the filter: `builtin`, `unconfined` or the path of a profile. Throws 500. */
export function readSeccomp(choice: string): 'default' | 'unconfined' | { readonly profile: string } {
  if (choice === 'unconfined') return choice;
  if (choice === 'builtin') return 'default';
  try {
    const profile = readFileSync(choice, 'utf8');
    parse(profile);
    return { profile };
  } catch (cause) {
    throw fail.config(`seccomp-profile: opening seccomp profile (${choice}) failed: ${messageOf(cause)}`);
  }
}

/** A filter from a profile file in Docker's format; undefined if it asks for none. Throws 500 if it is not one. */
export function seccompFrom(profile: string, subject: SeccompSubject): OciSeccomp | undefined {
  const parsed = parse(profile);
  if (parsed.defaultAction === undefined && parsed.syscalls === undefined) return undefined;
  if (parsed.architectures?.length && parsed.archMap?.length) {
    throw unusable(
      "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
    );
  }
  const native = nativeNames[subject.architecture];
  const mapped = parsed.archMap?.find(({ architecture }) => architecture === native);
  const architectures =
    mapped === undefined ? parsed.architectures : [mapped.architecture, ...(mapped.subArchitectures ?? [])];
  const { defaultErrnoRet, flags } = parsed;
  return {
    defaultAction: parsed.defaultAction ?? '',
    ...(defaultErrnoRet !== undefined && { defaultErrnoRet }),
    ...(architectures?.length && { architectures }),
    ...(flags?.length && { flags }),
    syscalls: compile((parsed.syscalls ?? []).map(ruleOf), subject),
  };
}

/** libseccomp's name of an architecture, by Go's. */
const nativeNames: Readonly<Record<string, string>> = {
  amd64: 'SCMP_ARCH_X86_64',
  '386': 'SCMP_ARCH_X86',
  arm64: 'SCMP_ARCH_AARCH64',
  arm: 'SCMP_ARCH_ARM',
  riscv64: 'SCMP_ARCH_RISCV64',
  loong64: 'SCMP_ARCH_LOONGARCH64',
};

/** A profile file as people write it: the runtime spec's form, with conditions. */
interface Profile {
  defaultAction?: string;
  defaultErrnoRet?: number;
  architectures?: string[];
  archMap?: { architecture: string; subArchitectures?: string[] | null }[];
  flags?: string[];
  syscalls?: ProfileCall[];
}

interface ProfileCall {
  names?: string[];
  name?: string;
  action: string;
  errnoRet?: number;
  args?: SeccompArgument[] | null;
  includes?: SeccompCondition;
  excludes?: SeccompCondition;
}

function ruleOf({ names, name, action, errnoRet, args, includes, excludes }: ProfileCall): SeccompRule {
  if (name !== undefined && name !== '' && names?.length) {
    throw unusable(
      "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
    );
  }
  return {
    names: names?.length ? names : [name ?? ''],
    action,
    ...(errnoRet !== undefined && { errnoRet }),
    ...(args && { args }),
    ...(includes && { when: includes }),
    ...(excludes && { unless: excludes }),
  };
}

/** Only the shape that is used here is checked; values are the OCI runtime's to judge. */
function parse(text: string): Profile {
  let profile: unknown;
  try {
    profile = JSON.parse(text);
  } catch (cause) {
    throw unusable(messageOf(cause), cause);
  }
  if (!isObject(profile)) throw unusable('not an object');
  for (const key of ['architectures', 'archMap', 'flags', 'syscalls'] as const) {
    if (!Array.isArray(profile[key] ?? [])) throw unusable(`${key} is not a list`);
    if (profile[key] === null) delete profile[key];
  }
  for (const key of ['archMap', 'syscalls'] as const) {
    if (!((profile[key] ?? []) as unknown[]).every(isObject))
      throw unusable(`${key} holds what is no object`);
  }
  return profile as Profile;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function unusable(reason: string, cause?: unknown): Error {
  return fail.runtime(`Decoding seccomp profile failed: ${reason}`, { cause });
}
