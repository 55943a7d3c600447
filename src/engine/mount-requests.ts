import { stat } from 'node:fs/promises';
import { posix } from 'node:path';
import { codeOf, type Failure, fail } from '../errors.ts';
import { reasonOf } from '../host/libc.ts';
import type { MountRequest } from './model.ts';
import { declinesCopy, isMode, isReadOnly, propagationOf, propagations } from './mount-modes.ts';

/** Checks of what a client wants mounted, in dockerd's order and words (volume/mounts, linux_parser.go). */

/** A bind in the words of `Mounts`, and its mode as it was given. */
export interface ParsedBind {
  request: MountRequest;
  mode: string;
}

/** `source:destination[:mode]`; a path alone is that of a new anonymous volume. Throws 500, as dockerd does. */
export function parseBind(text: string, volumeDriver: string): ParsedBind {
  const parts = text.split(':');
  const [first = '', second, mode = ''] = parts;
  if (first === '' || parts.length > 3) throw invalidVolume(text);
  if (parts.length === 2 && isMode(second ?? '')) throw invalidVolume(text); // a path with a mode
  if (!isMode(mode)) throw fail.host(`invalid mode: ${mode}`);
  const [source, target] = second === undefined ? ['', first] : [first, second];
  const isBind = source.startsWith('/');
  const propagation = propagationOf(mode);
  const volumeOptions = {
    ...(volumeDriver !== '' && !isBind && { driverConfig: { name: volumeDriver } }),
    ...(declinesCopy(mode) && { noCopy: true }),
  };
  const request: MountRequest = {
    type: isBind ? 'bind' : 'volume',
    ...(source !== '' && { source }),
    target,
    ...(isReadOnly(mode) && { readOnly: true }),
    ...(Object.keys(volumeOptions).length > 0 && { volumeOptions }),
    ...(propagation !== undefined && { bindOptions: { propagation } }),
  };
  const problem = problemOf(request);
  if (problem !== undefined) throw invalidVolume(text, invalidMount(request, problem));
  return { request, mode };
}

/** One element of `Mounts`; throws 400. Whether a bind's source is there, {@link checkBindSources} looks. */
export function checkMount(request: MountRequest): void {
  const problem = problemOf(request);
  if (problem !== undefined) throw fail.badRequest(invalidMount(request, problem));
}

/** Throws 400 unless the sources of all binds among `Mounts` are there that are not to be made. */
export async function checkBindSources(mounts: readonly MountRequest[]): Promise<void> {
  for (const request of mounts) {
    const { type, source = '', bindOptions } = request;
    if (type !== 'bind') continue;
    try {
      await stat(source);
    } catch (cause) {
      const isMissing = codeOf(cause) === 'ENOENT';
      if (isMissing && bindOptions?.createMountpoint === true) continue;
      const why = isMissing
        ? `bind source path does not exist: ${source}`
        : `stat ${source}: ${reasonOf(cause)}`;
      throw fail.badRequest(invalidMount(request, why));
    }
  }
}

/** A key of `Tmpfs`; throws 400. */
export function checkTmpfsTarget(path: string): void {
  const problem = problemOfTarget(path);
  if (problem !== undefined) throw fail.badRequest(problem);
}

/** The path without what says nothing: doubled and closing slashes, dots. */
export function cleanPath(path: string): string {
  const clean = posix.normalize(path);
  return clean.length > 1 ? clean.replace(/\/$/, '') : clean;
}

function problemOf(request: MountRequest): string | undefined {
  const { type, target, source = '', bindOptions, volumeOptions } = request;
  if (target === '') return 'field Target must not be empty';
  const problem = problemOfTarget(target);
  if (problem !== undefined) return problem;
  if (type !== 'bind' && bindOptions !== undefined && (type === 'volume' || type === 'tmpfs'))
    return 'field BindOptions must not be specified';
  switch (type) {
    case 'bind': {
      if (source === '') return 'field Source must not be empty';
      const { propagation = '' } = bindOptions ?? {};
      if (propagation !== '' && !propagations.includes(propagation))
        return `invalid propagation mode: ${propagation}`;
      if (volumeOptions !== undefined) return 'field VolumeOptions must not be specified';
      return source.startsWith('/') ? undefined : notAbsolute(source);
    }
    case 'volume': {
      const { subpath = '' } = volumeOptions ?? {};
      if (subpath !== '' && source === '') return 'must not set Subpath when using anonymous volumes';
      if (subpath !== '' && !isLocal(subpath)) return 'subpath must be a relative path within the volume';
      if (request.readOnly === true && source === '')
        return 'must not set ReadOnly mode when using anonymous volumes';
      return undefined;
    }
    case 'tmpfs':
      return source === '' ? undefined : 'field Source must not be specified';
    default:
      return 'mount type unknown';
  }
}

function problemOfTarget(path: string): string | undefined {
  if (cleanPath(path.replaceAll('\\', '/')) === '/') return "invalid specification: destination can't be '/'";
  return path.startsWith('/') ? undefined : notAbsolute(path);
}

function notAbsolute(path: string): string {
  return `invalid mount path: '${path}' mount path must be absolute`;
}

/** It stays below where it starts, whatever its dots say. */
function isLocal(path: string): boolean {
  const clean = posix.normalize(path);
  return !clean.startsWith('/') && clean !== '..' && !clean.startsWith('../');
}

function invalidMount({ type }: MountRequest, why: string): string {
  return `invalid mount config for type "${type}": ${why}`;
}

function invalidVolume(text: string, why?: string): Failure {
  return fail.host(`invalid volume specification: '${text}'${why === undefined ? '' : `: ${why}`}`);
}
