import { fail, StartFailure } from '../errors.ts';

/** What an OCI runtime was asked for when it failed. */
export type OciStep = 'create' | 'start' | 'exec';

/** As shells have it: no such program, one that cannot be run, and any other reason. */
const NOT_FOUND = 127;
const NOT_EXECUTABLE = 126;
const NOT_STARTED = 128;

/** The exit code that a container or exec shows whose start failed with `cause`; undefined if nothing says. */
export function startExitCode(cause: unknown): number | undefined {
  return cause instanceof StartFailure ? cause.exitCode : undefined;
}

/**
 * Puts an OCI runtime's complaint into dockerd's words, which clients match on: the same whichever runtime said it.
 * `command` is what was to be run. What is wrong with the command is the client's fault (400), the rest ours (500).
 */
export function ociFailure(step: OciStep, complaint: string, command: string): StartFailure {
  const reason = inRuncWords(step, plain(complaint), command);
  const message = `${prefixes[step]}: ${reason}: unknown`;
  return judge(message, command, { otherwise: step === 'exec' ? NOT_EXECUTABLE : NOT_STARTED, complaint });
}

const prefixes: Readonly<Record<OciStep, string>> = {
  create: 'failed to create shim task: OCI runtime create failed',
  start: 'OCI runtime start failed',
  exec: 'OCI runtime exec failed',
};

/** dockerd's rules, in its order: a later one overrides (daemon/errors.go, translateContainerdStartErr). */
function judge(
  message: string,
  command: string,
  { otherwise, complaint }: { otherwise: number; complaint: string },
): StartFailure {
  const contains = (text: string) => message.toLowerCase().includes(text);
  let verdict = { text: message, status: 500, exitCode: otherwise };
  const isMissing = contains('executable file not found') || contains('no such file or directory');
  if (isMissing && message.includes(command)) verdict = { ...verdict, status: 400, exitCode: NOT_FOUND };
  if (contains('is a directory') && !contains('permission denied')) verdict.text += ': permission denied';
  if (contains('permission denied') || contains('is a directory'))
    verdict = { ...verdict, status: 400, exitCode: NOT_EXECUTABLE };
  if (contains('not a directory')) {
    verdict = {
      text: `${message}: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type`,
      status: 400,
      exitCode: NOT_FOUND,
    };
  }
  return fail.startFailed(verdict.text, { ...verdict, cause: complaint });
}

/** What runc says of the same fault, in place of crun's sentence; other sentences are passed on. */
function inRuncWords(step: OciStep, reason: string, command: string): string {
  const fault = crunFault(reason, command);
  if (fault === undefined) return reason;
  const frame = step === 'exec' ? 'exec failed' : `runc ${step} failed`;
  return `${frame}: unable to start container process: exec: ${JSON.stringify(command)}: ${fault}`;
}

// crun 1.8: container.c, container_init_setup; later ones: utils.c, find_executable
function crunFault(reason: string, command: string): string | undefined {
  if (/^executable file `.*` not found/s.test(reason))
    return command.includes('/')
      ? `stat ${command}: no such file or directory`
      : 'executable file not found in $PATH';
  if (/^open executable: (?:permission denied|operation not permitted|is a directory)/i.test(reason))
    return 'permission denied';
  if (/^the path `.*` (?:exists but it is not executable|is not a regular file)/s.test(reason))
    return 'permission denied';
  return undefined;
}

/** One line without the decoration of a log: runtimes write errors as text, as logrus's fields or as JSON. */
function plain(complaint: string): string {
  const lines = complaint
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  const sentences = lines.map((line) => sentenceOf(line)).filter((line) => line !== undefined);
  return sentences.join(': ') || 'no reason given';
}

/** A log line's message; undefined for one that is no error. */
function sentenceOf(line: string): string | undefined {
  const fields = /^time="[^"]*" level=(\w+) msg=("(?:[^"\\]|\\.)*"|\S+)/.exec(line);
  if (fields !== null) return isError(fields[1]) ? unquote(fields[2] ?? '') : undefined;
  if (!line.startsWith('{')) return line;
  try {
    const { level, msg }: { level?: unknown; msg?: unknown } = JSON.parse(line);
    return typeof msg !== 'string' ? line : isError(String(level)) ? msg : undefined;
  } catch {
    return line;
  }
}

function isError(level: string | undefined): boolean {
  return (
    level === undefined ||
    level === 'error' ||
    level === 'fatal' ||
    level === 'panic' ||
    level === 'undefined'
  );
}

function unquote(text: string): string {
  if (!text.startsWith('"')) return text;
  try {
    return String(JSON.parse(text));
  } catch {
    return text;
  }
}
