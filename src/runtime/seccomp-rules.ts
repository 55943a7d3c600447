/** One comparison of a system call's argument; all of a rule's must hold. For MASKED_EQ `value` is the mask. */
export interface SeccompArgument {
  readonly index: number;
  readonly value: number;
  readonly valueTwo?: number;
  readonly op: string;
}

/** Where a rule applies: all that is named must be so. Architectures in Docker's names (`amd64`, `x86`, `arm`). */
export interface SeccompCondition {
  readonly caps?: readonly string[];
  readonly arches?: readonly string[];
  readonly minKernel?: string;
}

/** What happens to system calls of these names. */
export interface SeccompRule {
  readonly names: readonly string[];
  /** Allowed, if absent. */
  readonly action?: string;
  readonly errnoRet?: number;
  readonly args?: readonly SeccompArgument[];
  /** Only if all of it holds. */
  readonly when?: SeccompCondition;
  /** Not if any of it holds. */
  readonly unless?: SeccompCondition;
}

/** What the conditions are asked about. */
export interface SeccompSubject {
  /** Go's name, as in `linux/amd64`. */
  readonly architecture: string;
  /** As `uname -r` prints it. */
  readonly kernel: string;
  /** The container's bounding set. */
  readonly capabilities: readonly string[];
}

/** `linux.seccomp` of the OCI runtime spec (config-linux.md). */
export interface OciSeccomp {
  defaultAction: string;
  defaultErrnoRet?: number;
  architectures?: string[];
  flags?: string[];
  syscalls: {
    names: readonly string[];
    action: string;
    errnoRet?: number;
    args?: readonly SeccompArgument[];
  }[];
}

/** The rules that hold for this container on this machine, without their conditions. */
export function compile(rules: readonly SeccompRule[], subject: SeccompSubject): OciSeccomp['syscalls'] {
  return rules
    .filter(({ when = {}, unless = {} }) => holdsWhole(when, subject) && !holdsPartly(unless, subject))
    .map(({ names, action = 'SCMP_ACT_ALLOW', errnoRet, args }) => ({
      names,
      action,
      ...(errnoRet !== undefined && { errnoRet }),
      ...(args?.length && { args }),
    }));
}

function holdsWhole({ caps, arches, minKernel }: SeccompCondition, subject: SeccompSubject): boolean {
  return (
    (caps ?? []).every((name) => subject.capabilities.includes(name)) &&
    (!arches?.length || arches.includes(dockerName(subject))) &&
    (minKernel === undefined || isKernelAtLeast(subject.kernel, minKernel))
  );
}

function holdsPartly({ caps, arches, minKernel }: SeccompCondition, subject: SeccompSubject): boolean {
  return (
    (caps ?? []).some((name) => subject.capabilities.includes(name)) ||
    (arches ?? []).includes(dockerName(subject)) ||
    (minKernel !== undefined && isKernelAtLeast(subject.kernel, minKernel))
  );
}

/** Docker's profiles write Go's architectures, but for one. */
function dockerName({ architecture }: SeccompSubject): string {
  return architecture === '386' ? 'x86' : architecture;
}

function isKernelAtLeast(kernel: string, wanted: string): boolean {
  const numbers = (text: string) => text.split('.', 2).map((part) => Number.parseInt(part, 10) || 0);
  const [major = 0, minor = 0] = numbers(kernel);
  const [wantedMajor = 0, wantedMinor = 0] = numbers(wanted);
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}
