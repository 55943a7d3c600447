import { codeOf, messageOf } from '../errors.ts';

/** As Go words them, and so dockerd; libuv, and so Node, has words of its own. */
const goTexts: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EADDRINUSE: 'address already in use',
  EADDRNOTAVAIL: 'cannot assign requested address',
  EBUSY: 'device or resource busy',
  EDQUOT: 'disk quota exceeded',
  EEXIST: 'file exists',
  EINVAL: 'invalid argument',
  ENETDOWN: 'network is down',
  ENODEV: 'no such device',
  ENOENT: 'no such file or directory',
  ENOSPC: 'no space left on device',
  ENOTDIR: 'not a directory',
  ENOTSUP: 'operation not supported',
  EOPNOTSUPP: 'operation not supported',
  EPERM: 'operation not permitted',
  EROFS: 'read-only file system',
};

/** What dockerd would say of a system error. */
export function errnoText(cause: unknown): string {
  return goTexts[codeOf(cause) ?? ''] ?? messageOf(cause);
}
