/**
 * A failure that a client is told about by name. Anything else that is thrown is a bug and answers 500.
 * `code` goes to the log and the metric label, `status` and `message` to the client.
 */
export class Failure extends Error {
  readonly code: string;
  readonly status: number;
  /** What other wordings of the same failure need and this message does not say; by name. */
  readonly facts: Readonly<Record<string, string>>;

  constructor(
    code: string,
    status: number,
    message: string,
    { facts, ...options }: { cause?: unknown; facts?: Readonly<Record<string, string>> } = {},
  ) {
    super(message, options);
    this.name = 'Failure';
    this.code = code;
    this.status = status;
    this.facts = facts ?? {};
  }
}

/** A process that could not be started; says also which exit code shows that, as shells have it. */
export class StartFailure extends Failure {
  readonly exitCode: number;

  constructor(status: number, message: string, o: { exitCode: number; cause?: unknown }) {
    super('START_FAILED', status, message, { cause: o.cause });
    this.exitCode = o.exitCode;
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

const goneness = { removing: 'being removed', dead: 'Dead' } as const;

/** The catalogue. Wording follows dockerd, because clients match on it. */
export const fail = {
  // requests
  badRequest: (message: string) => new Failure('BAD_REQUEST', 400, message),
  noSwarm: ({ status = 503 } = {}) =>
    new Failure(
      'NO_SWARM',
      status,
      'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
    ),
  notFound: () => new Failure('PAGE_NOT_FOUND', 404, 'page not found'),
  invalidReference: (message: string) => new Failure('INVALID_REFERENCE', 400, message),
  invalidDigest: (text: string) =>
    new Failure('INVALID_DIGEST', 400, `invalid checksum digest format: ${text}`),
  invalidPlatform: (text: string) =>
    new Failure('INVALID_PLATFORM', 400, `"${text}": cannot parse platform specifier: invalid argument`),
  invalidSignal: (text: string) => new Failure('INVALID_SIGNAL', 400, `invalid signal: ${text}`),
  unsupportedSignal: (number: number) =>
    new Failure('UNSUPPORTED_SIGNAL', 400, `the linux daemon does not support signal ${number}`),
  invalidExecKeys: (keys: string) =>
    new Failure('INVALID_EXEC_KEYS', 500, `Invalid escape keys (${keys}) provided`),
  experimental: () =>
    new Failure(
      'EXPERIMENTAL',
      501,
      'This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it.',
    ),
  notImplemented: (message: string) => new Failure('NOT_IMPLEMENTED', 501, message),
  clientTooNew: (version: string, ceiling: string) =>
    new Failure(
      'CLIENT_TOO_NEW',
      400,
      `client version ${version} is too new. Maximum supported API version is ${ceiling}`,
    ),
  clientTooOld: (version: string, floor: string) =>
    new Failure(
      'CLIENT_TOO_OLD',
      400,
      `client version ${version} is too old. Minimum supported API version is ${floor}, please upgrade your client to a newer version`,
    ),
  invalidNumber: (call: 'Atoi' | 'ParseInt', text: string, reason: string, status: number) =>
    new Failure('INVALID_NUMBER', status, `strconv.${call}: parsing ${JSON.stringify(text)}: ${reason}`),
  invalidBody: (message: string, status = 400) => new Failure('INVALID_BODY', status, message),
  invalidFilters: (message: string, status = 400) => new Failure('INVALID_FILTERS', status, message),
  badPortFilter: (message: string) => new Failure('BAD_PORT_FILTER', 400, message),
  standstill: (seconds: number) =>
    new Failure('STANDSTILL', 400, `the client sent nothing for ${seconds} seconds`),
  bodyTooLarge: (maxBytes: number) =>
    new Failure('BODY_TOO_LARGE', 413, `request body is larger than ${maxBytes} bytes`),

  // containers
  noSuchContainer: (ref: string) => new Failure('NO_SUCH_CONTAINER', 404, `No such container: ${ref}`),
  ambiguousContainer: (prefix: string) =>
    new Failure('AMBIGUOUS_CONTAINER', 400, `multiple IDs found with provided prefix: ${prefix}`),
  notRunning: (id: string) => new Failure('NOT_RUNNING', 409, `container ${id} is not running`),
  /** A namespace of another container that cannot be had, with the words of the reason. */
  cannotJoin: (kind: 'IPC' | 'PID', ref: string, { status, message }: { status: number; message: string }) =>
    new Failure(`JOIN_${kind}`, status, `failed to join ${kind} namespace: ${message}`, { facts: { ref } }),
  joinNotRunning: (ref: string) =>
    new Failure('NOT_RUNNING', 409, `cannot join network of a non running container: ${ref}`),
  attachPaused: (ref: string) =>
    new Failure('IS_PAUSED', 409, `container ${ref} is paused, unpause the container before attach`),
  execPaused: (ref: string) =>
    new Failure('IS_PAUSED', 409, `Container ${ref} is paused, unpause the container before exec`),
  alreadyPaused: (id: string) => new Failure('ALREADY_PAUSED', 409, `Container ${id} is already paused`),
  notPaused: (id: string) => new Failure('NOT_PAUSED', 500, `Container ${id} is not paused`),
  attachRestarting: (ref: string) =>
    new Failure('IS_RESTARTING', 409, `container ${ref} is restarting, wait until the container is running`),
  execRestarting: (id: string) =>
    new Failure('IS_RESTARTING', 409, `Container ${id} is restarting, wait until the container is running`),
  updateConflict: (message: string) => new Failure('UPDATE_CONFLICT', 409, message),
  /** The same failure, told of the update that met it. */
  cannotUpdate: (id: string, { code, status, message }: Failure) =>
    new Failure(code, status, `Cannot update container ${id}: ${message}`),
  startPaused: () => new Failure('IS_PAUSED', 409, 'cannot start a paused container, try unpause instead'),
  beingRemoved: (ref: string) =>
    new Failure('BEING_REMOVED', 409, `removal of container ${ref} is already in progress`),
  startRemoved: () =>
    new Failure('BEING_REMOVED', 409, 'container is marked for removal and cannot be started'),
  removeRunning: (name: string, id = '', status = 'running') =>
    new Failure(
      'REMOVE_RUNNING',
      409,
      `cannot remove container "/${name}": container is ${status}: stop the container before removing or force remove`,
      { facts: { id, status } },
    ),
  removePaused: (name: string, id = '') =>
    new Failure(
      'REMOVE_PAUSED',
      409,
      `cannot remove container "/${name}": container is paused and must be unpaused first`,
      { facts: { id } },
    ),
  commitRefused: (id: string, status: 'removing' | 'dead') =>
    new Failure('BEING_REMOVED', 409, `You cannot commit container ${id} which is ${goneness[status]}`),
  exportRefused: (id: string, status: 'removing' | 'dead') =>
    new Failure('BEING_REMOVED', 409, `You cannot export container ${id} which is ${goneness[status]}`),
  filesRefused: (id: string, status: 'removing' | 'dead') =>
    new Failure('BEING_REMOVED', 409, `container ${id} is ${goneness[status]}`),
  noSuchFile: (path: string, container: string) =>
    new Failure('NO_SUCH_FILE', 404, `Could not find the file ${path} in container ${container}`),
  notADirectory: () => new Failure('NOT_A_DIRECTORY', 400, 'extraction point is not a directory'),
  readonlyFiles: (what: 'container rootfs' | 'mounted volume') =>
    new Failure('READONLY_FILES', 400, `${what} is marked read-only`),
  extraction: (message: string, cause?: unknown) => new Failure('EXTRACTION', 500, message, { cause }),
  removedWhileRead: (id: string) =>
    new Failure('BEING_REMOVED', 409, `container ${id} was removed while its files were read`),
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
  /** The runtime's own words, and the exit code that they mean: see runtime/failure.ts. */
  startFailed: (message: string, o: { status: number; exitCode: number; cause?: unknown }) =>
    new StartFailure(o.status, message, o),
  /** Why a container cannot have its new name, in the words and with the status of a creation. */
  newNameRefused: ({ code, status, message }: Failure) =>
    new Failure(code, status, `Error when allocating new name: ${message}`),
  noSuchUser: (user: string) =>
    new Failure('NO_SUCH_USER', 500, `unable to find user ${user}: no matching entries in passwd file`),
  /** Of a user, or one more that was asked for: dockerd words them alike but for a letter. */
  noSuchGroup: (group: string, { isMore = false } = {}) =>
    new Failure(
      'NO_SUCH_GROUP',
      500,
      `${isMore ? 'U' : 'u'}nable to find group ${group}: no matching entries in group file`,
    ),
  userOutOfRange: () => new Failure('USER_OUT_OF_RANGE', 500, 'uids and gids must be in range 0-2147483647'),
  noSuchDevice: (path: string, reason: string) =>
    new Failure(
      'NO_SUCH_DEVICE',
      500,
      `error gathering device information while adding custom device "${path}": ${reason}`,
    ),
  unknownRestartPolicy: (policy: string) =>
    new Failure(
      'UNKNOWN_RESTART_POLICY',
      400,
      `invalid restart policy: unknown policy '${policy}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`,
      { facts: { policy } },
    ),
  misplacedRetryCount: (policy: string, count: number) =>
    new Failure(
      'MISPLACED_RETRY_COUNT',
      400,
      `invalid restart policy: maximum retry count can only be used with 'on-failure'${count < 0 ? ' and cannot be negative' : ''}`,
      { facts: { policy } },
    ),
  negativeRetryCount: () =>
    new Failure(
      'NEGATIVE_RETRY_COUNT',
      400,
      'invalid restart policy: maximum retry count cannot be negative',
    ),
  noCommand: () => new Failure('NO_COMMAND', 400, 'no command specified'),
  unknownRuntime: (name: string) =>
    new Failure('UNKNOWN_RUNTIME', 400, `unknown or invalid runtime name: ${name}`),
  noSuchVolume: (name: string) =>
    new Failure('NO_SUCH_VOLUME', 404, `get${name === '' ? '' : ` ${name}`}: no such volume`),
  volumeInUse: (name: string, users: readonly string[]) =>
    new Failure('VOLUME_IN_USE', 409, `remove ${name}: volume is in use - [${users.join(', ')}]`),
  noSuchSubpath: (message: string, cause?: unknown) =>
    new Failure('NO_SUCH_SUBPATH', 404, message, { cause }),
  /** A volume that cannot be made as it was asked for. */
  badVolume: (name: string, why: string) => new Failure('BAD_VOLUME', 400, `create ${name}: ${why}`),
  badVolumeSize: (name: string, size: string) =>
    new Failure('BAD_VOLUME_SIZE', 400, `create ${name}: invalid size: '${size}'`),
  noVolumeDriver: (name: string, driver: string) =>
    new Failure(
      'NO_VOLUME_DRIVER',
      404,
      `create ${name}: error looking up volume plugin ${driver}: plugin "${driver}" not found`,
    ),
  clusterVolumesOnly: () =>
    new Failure('NO_SWARM', 503, 'volume update only valid for cluster volumes, but swarm is unavailable'),
  noSuchNetwork: (ref: string) => new Failure('NO_SUCH_NETWORK', 404, `network ${ref} not found`),
  ambiguousNetwork: (ref: string, matches: string) =>
    new Failure('AMBIGUOUS_NETWORK', 400, `network ${ref} is ambiguous (${matches})`),
  /** The same, as a look at one says it. */
  severalNetworks: (ref: string, matches: string) =>
    new Failure('AMBIGUOUS_NETWORK', 400, `${matches}: network ${ref} is ambiguous`),
  networkNameTaken: (name: string) =>
    new Failure('NETWORK_NAME_TAKEN', 409, `network with name ${name} already exists`),
  invalidNetworkName: (name: string) => new Failure('INVALID_NETWORK_NAME', 400, `invalid name: ${name}`),
  predefinedNetwork: (name: string) =>
    new Failure(
      'NETWORK_REFUSED',
      403,
      `operation is not permitted on predefined ${name} network `, // with this blank at its end
    ),
  networkRefused: (message: string) => new Failure('NETWORK_REFUSED', 403, message),
  noPlugin: (name: string) => new Failure('NO_PLUGIN', 404, `plugin ${JSON.stringify(name)} not found`),
  /** `earlier`: what daemons said of the first fault, when they found one after the other. */
  invalidEndpoint: (message: string, earlier: string) =>
    new Failure('INVALID_ENDPOINT', 400, message, { facts: { earlier } }),
  endpointTaken: (container: string, network: string) =>
    new Failure(
      'ENDPOINT_TAKEN',
      403,
      `endpoint with name ${container} already exists in network ${network}`,
    ),
  noSuchEndpoint: (name: string) => new Failure('NO_SUCH_ENDPOINT', 404, `endpoint ${name} not found`),
  notConnected: (message: string) => new Failure('NOT_CONNECTED', 500, message),
  noSuchExec: (id: string) => new Failure('NO_SUCH_EXEC', 404, `No such exec instance: ${id}`),
  /** containerd's words for a terminal that is no more. */
  execOver: () => new Failure('NO_SUCH_EXEC', 404, 'no such exec'),
  execHasRun: (id: string) => new Failure('EXEC_HAS_RUN', 409, `Error: Exec command ${id} has already run`),

  // images and registries
  /** balenaEngine's words for an image of a delta that cannot be found, whyever. */
  noImageForDelta: (ref: string, { code, status, message, cause }: Failure) =>
    new Failure(code, status, `no such image: ${ref}: ${message}`, { cause }),
  noSuchImage: (ref: string) => new Failure('NO_SUCH_IMAGE', 404, `No such image: ${ref}`),
  noSuchReference: () => new Failure('NO_SUCH_IMAGE', 404, 'reference does not exist'),
  invalidArchive: (message: string, cause?: unknown) =>
    new Failure('INVALID_ARCHIVE', 400, message, { cause }),
  baseDamaged: (diffId: string, reason: string, cause?: unknown) =>
    new Failure('BASE_DAMAGED', 500, `delta: layer ${diffId} of its base is damaged: ${reason}`, {
      cause,
      facts: { layer: diffId, damage: reason },
    }),
  noDelta: (message: string) => new Failure('NO_DELTA', 500, message),
  noDeltaBase: (message: string) => new Failure('NO_DELTA_BASE', 404, message),
  platformMismatch: (ref: string, wanted: string, actual: string) =>
    new Failure(
      'PLATFORM_MISMATCH',
      404,
      `image with reference ${ref} was found but does not match the specified platform: wanted ${wanted}, actual: ${actual}`,
    ),
  imageConflict: (message: string) => new Failure('IMAGE_CONFLICT', 409, `conflict: ${message}`),
  noGeneration: (message: string) => new Failure('NO_GENERATION', 409, message),
  pruneRunning: () => new Failure('PRUNE_RUNNING', 409, 'a prune operation is already running'),
  registry: (message: string, { status = 500, cause }: { status?: number; cause?: unknown } = {}) =>
    new Failure('REGISTRY', status, message, { cause }),
  registryUnreachable: (message: string, cause?: unknown) =>
    new Failure('REGISTRY_UNREACHABLE', 500, message, { cause }),
  manifestNotFound: (ref: string, reason: string) =>
    new Failure('MANIFEST_NOT_FOUND', 404, `manifest for ${ref} not found: ${reason}`),
  repositoryNotFound: (repository: string, reason: string) =>
    new Failure('REPOSITORY_NOT_FOUND', 404, `repository ${repository} not found: ${reason}`),
  pullDenied: (repository: string, reason: string) =>
    new Failure(
      'PULL_DENIED',
      404,
      `pull access denied for ${repository}, repository does not exist or may require 'docker login': ${reason}`,
    ),
  noSuchTag: (ref: string) => new Failure('NO_SUCH_TAG', 404, `tag does not exist: ${ref}`),
  nothingToPush: (repository: string) =>
    new Failure('NO_SUCH_TAG', 404, `An image does not exist locally with the tag: ${repository}`),
  noMatchingManifest: (platform: string) =>
    new Failure(
      'NO_MATCHING_MANIFEST',
      404,
      `no matching manifest for ${platform} in the manifest list entries`,
    ),
  unsupportedImage: (message: string) => new Failure('UNSUPPORTED_IMAGE', 400, message),
  verification: (what: 'filesystem layer' | 'image config' | 'manifest', digest: string) =>
    new Failure('CORRUPT', 500, `${what} verification failed for digest ${digest}`),
  layerTooLarge: (maxBytes: number) =>
    new Failure('LAYER_TOO_LARGE', 500, `the layer is larger than ${maxBytes} bytes`),
  notRepaired: (message: string) => new Failure('NOT_REPAIRED', 500, message),
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

  // the command line
  /** What the daemon answered, as the docker command line prints it. */
  daemon: (message: string, cause?: unknown) =>
    new Failure('DAEMON', 500, `Error response from daemon: ${message}`, { cause }),
  noDaemon: (message: string, cause?: unknown) => new Failure('NO_DAEMON', 500, message, { cause }),
};
