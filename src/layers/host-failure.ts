import { codeOf, Failure, fail, messageOf } from '../errors.ts';

/** What the file system said about a layer's directory, as a failure; `what` tells what was under way. */
export function hostFailure(what: string, cause: unknown): Failure {
  if (cause instanceof Failure) return cause;
  const code = codeOf(cause);
  if (code === 'ENOSPC') return fail.noSpace(`${what}: no space left on device`);
  if (code === 'EDQUOT') return fail.noSpace(`${what}: disk quota exceeded`);
  return fail.host(`${what}: ${messageOf(cause)}`, cause);
}
