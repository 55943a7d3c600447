/**
 * A failure that a client is told about by name. Anything else that is thrown is a bug and answers 500.
 * `code` goes to the log and the metric label, `status` and `message` to the client.
 */
export class Failure extends Error {
  readonly code: string;
  readonly status: number;

  constructor(code: string, status: number, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'Failure';
    this.code = code;
    this.status = status;
  }
}

/** The text of anything that was thrown, for messages that carry it on. */
export function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

/** The system's error code (`ENOENT`, `ECONNREFUSED`) of anything that was thrown, if it has one. */
export function codeOf(cause: unknown): string | undefined {
  if (typeof cause !== 'object' || cause === null || !('code' in cause)) return undefined;
  return typeof cause.code === 'string' ? cause.code : undefined;
}

/** The catalogue. Wording follows dockerd, because clients match on it. */
export const fail = {
  // requests
  badRequest: (message: string) => new Failure('BAD_REQUEST', 400, message),
  notFound: () => new Failure('PAGE_NOT_FOUND', 404, 'page not found'),
  invalidReference: (message: string) => new Failure('INVALID_REFERENCE', 400, message),
  invalidDigest: (text: string) =>
    new Failure('INVALID_DIGEST', 400, `invalid checksum digest format: ${text}`),
  invalidPlatform: (text: string) =>
    new Failure('INVALID_PLATFORM', 400, `"${text}": cannot parse platform specifier: invalid argument`),
  invalidSignal: (text: string) => new Failure('INVALID_SIGNAL', 400, `invalid signal: ${text}`),
  notImplemented: (message: string) => new Failure('NOT_IMPLEMENTED', 501, message),

  // containers
  noSuchContainer: (ref: string) => new Failure('NO_SUCH_CONTAINER', 404, `No such container: ${ref}`),
  ambiguousContainer: (prefix: string) =>
    new Failure('AMBIGUOUS_CONTAINER', 400, `multiple IDs found with provided prefix: ${prefix}`),
  notRunning: (id: string) => new Failure('NOT_RUNNING', 409, `container ${id} is not running`),
  isPaused: (ref: string, wish: string) =>
    new Failure('IS_PAUSED', 409, `container ${ref} is paused, unpause the container before ${wish}`),
  startPaused: () => new Failure('IS_PAUSED', 409, 'cannot start a paused container, try unpause instead'),
  beingRemoved: (ref: string) =>
    new Failure('BEING_REMOVED', 409, `removal of container ${ref} is already in progress`),
  startRemoved: () =>
    new Failure('BEING_REMOVED', 409, 'container is marked for removal and cannot be started'),
  removeRunning: (name: string) =>
    new Failure(
      'REMOVE_RUNNING',
      409,
      `cannot remove container "/${name}": container is running: stop the container before removing or force remove`,
    ),
  removePaused: (name: string) =>
    new Failure(
      'REMOVE_PAUSED',
      409,
      `cannot remove container "/${name}": container is paused and must be unpaused first`,
    ),
  invalidContainerName: (name: string) =>
    new Failure(
      'INVALID_CONTAINER_NAME',
      400,
      `Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
    ),
  containerNameTaken: (name: string, id: string) =>
    new Failure(
      'CONTAINER_NAME_TAKEN',
      409,
      `Conflict. The container name "/${name}" is already in use by container "${id}". You have to remove (or rename) that container to be able to reuse that name.`,
    ),
  noCommand: () => new Failure('NO_COMMAND', 400, 'no command specified'),
  unknownRuntime: (name: string) =>
    new Failure('UNKNOWN_RUNTIME', 400, `unknown or invalid runtime name: ${name}`),
  noSuchExec: (id: string) => new Failure('NO_SUCH_EXEC', 404, `No such exec instance: ${id}`),
  execHasRun: (id: string) => new Failure('EXEC_HAS_RUN', 409, `Error: Exec command ${id} has already run`),

  // images and registries
  noSuchImage: (ref: string) => new Failure('NO_SUCH_IMAGE', 404, `No such image: ${ref}`),
  platformMismatch: (ref: string, wanted: string, actual: string) =>
    new Failure(
      'PLATFORM_MISMATCH',
      404,
      `image with reference ${ref} was found but does not match the specified platform: wanted ${wanted}, actual: ${actual}`,
    ),
  imageConflict: (message: string) => new Failure('IMAGE_CONFLICT', 409, `conflict: ${message}`),
  registry: (message: string, { status = 500, cause }: { status?: number; cause?: unknown } = {}) =>
    new Failure('REGISTRY', status, message, { cause }),
  corrupt: (message: string, cause?: unknown) => new Failure('CORRUPT', 500, message, { cause }),

  // the host
  host: (message: string, cause?: unknown) => new Failure('HOST', 500, message, { cause }),
  noSpace: (message: string) => new Failure('NO_SPACE', 500, message),
  store: (message: string, cause?: unknown) => new Failure('STORE', 500, message, { cause }),
  runtime: (message: string, { status = 500, cause }: { status?: number; cause?: unknown } = {}) =>
    new Failure('RUNTIME', status, message, { cause }),
  network: (message: string, { status = 500, cause }: { status?: number; cause?: unknown } = {}) =>
    new Failure('NETWORK', status, message, { cause }),
  config: (message: string) => new Failure('CONFIG', 500, message),
};
