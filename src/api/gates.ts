/**
 * Every difference between API versions that this engine imitates: which of the two numbers decides, and from which
 * version on the newer behaviour holds. IDs as in the project's digest of Docker's version gates; `B…` are the rules
 * below 1.39 that a floor of 1.24 keeps reachable. What a gate changes is said where it changes it: shapes of requests
 * and answers in `*-gates.ts`, words of failures in `failure-gates.ts`.
 *
 * `request`: the version in the path, or the ceiling without one. `ceiling`: what the daemon claims to be; it decides
 * where Docker changed something without a version check. `both`: a daemon that knows the new behaviour imitates the
 * old one for old requests, but not as the old daemon behaved: `Axes.has` asks for the new behaviour,
 * `Axes.knows` whether the daemon is of the kind that imitates.
 *
 * Not here, because both sides come out the same in this engine: G026 (its default cgroup namespace is what old clients
 * expect), G083 (ClusterStore is always empty), G094 and G096 (follow from how G095 keeps the MAC address), G103 (it
 * knows no features of its runtimes).
 */
export const gates = {
  /** Auto-removal is the client's work; /info names security options without their values. */
  B125: ['request', '1.25'],
  /** Wait takes a condition and sends its headers at once. */
  B130: ['request', '1.30'],
  /** Attach by websocket: messages are binary, not text. */
  B128: ['request', '1.28'],
  /** The list of networks does not say who is on them. */
  containersInLists: ['request', '1.28'],
  /** Pull takes a platform. */
  B132: ['request', '1.32'],
  /** Wait for removal tells of a removal that failed. */
  B134: ['request', '1.34'],
  /** An unknown kernel or operating system is an empty text. */
  G001: ['request', '1.39'],
  /** HEAD /_ping. */
  G005: ['ceiling', '1.40'],
  /** Pings are not to be cached. */
  G006: ['ceiling', '1.40'],
  /** The default IPC mode is the daemon's, not `shareable`. */
  G007: ['request', '1.40'],
  /** BindOptions.NonRecursive. */
  G008: ['request', '1.40'],
  /** HostConfig.KernelMemoryTCP. */
  G009: ['request', '1.40'],
  /** HostConfig.Capabilities, which 1.40 alone had, is gone. It is printed as null there and not honoured. */
  G010: ['ceiling', '1.41'],
  /** HostConfig.DeviceRequests. */
  G011: ['ceiling', '1.40'],
  /** PidsLimit is null where there is none. */
  G012: ['ceiling', '1.40'],
  /** Update takes a PidsLimit. */
  G013: ['request', '1.40'],
  /** DiskQuota left HostConfig; DeviceRequests and KernelMemoryTCP came. */
  G014: ['ceiling', '1.40'],
  /** The network list's `dangling` filter. */
  G016: ['ceiling', '1.40'],
  /** /info tells of PidsLimit and KernelMemoryTCP. */
  G017: ['ceiling', '1.40'],
  /** Create takes a platform. */
  G024: ['request', '1.41'],
  /** Create warns of a foreign image. */
  G025: ['ceiling', '1.41'],
  /** HostConfig.CgroupnsMode in requests. */
  G027: ['ceiling', '1.41'],
  /** HostConfig.CgroupnsMode in answers. */
  G028: ['ceiling', '1.41'],
  /** The image list's old `filter` parameter is gone. */
  G029: ['request', '1.41'],
  /** Stats take a single look. */
  G030: ['request', '1.41'],
  /** Prunes are told as events. */
  G031: ['ceiling', '1.41'],
  /** /info tells of the cgroup version, address pools and OS version. */
  G032: ['ceiling', '1.41'],
  /** /info leaves out what it has no value for. */
  G033: ['ceiling', '1.41'],
  /** Image inspect tells the CPU variant. */
  G034: ['ceiling', '1.41'],
  /** Logs have a content type, which tells frames from raw bytes. */
  G040: ['both', '1.42'],
  /** Attach: the 101's content type tells frames from raw bytes. */
  G041: ['request', '1.42'],
  /** Exec start: likewise. */
  G042: ['request', '1.42'],
  /** Attach by websocket: which streams is asked for, instead of all. */
  G044: ['request', '1.42'],
  /** Stop and restart take a signal. */
  G045: ['request', '1.42'],
  /** HostConfig.ConsoleSize. */
  G046: ['request', '1.42'],
  /** Exec create takes a console size. */
  G047: ['request', '1.42'],
  /** Exec start takes a console size. */
  G048: ['request', '1.42'],
  /** BindOptions.CreateMountpoint. */
  G049: ['request', '1.42'],
  /** Options of another mount type are refused in one way. */
  G050: ['both', '1.42'],
  /** HostConfig.KernelMemory is ignored. */
  G051: ['request', '1.42'],
  /** Inspect leaves out kernel memory limits of 0. */
  G052: ['ceiling', '1.42'],
  /** /info leaves KernelMemory out. */
  G053: ['both', '1.42'],
  /** /info leaves out KernelMemoryTCP where it is false. */
  G054: ['ceiling', '1.42'],
  /** An unknown wait condition is refused. */
  G055: ['ceiling', '1.42'],
  /** Wait leaves out an Error of null. */
  G056: ['ceiling', '1.42'],
  /** The image list computes shared sizes and counts containers on demand. */
  G057: ['request', '1.42'],
  /** Disk usage can be asked for by type. */
  G058: ['request', '1.42'],
  /** An empty build cache is an empty list, and its size is left out. */
  G061: ['ceiling', '1.42'],
  /** Who asks for the disk usage while it is measured shares the answer. */
  G062: ['ceiling', '1.42'],
  /** A prune of volumes takes only anonymous ones, unless all are asked for. */
  G063: ['both', '1.42'],
  /** Volumes that were made without a name are marked by a label. */
  G064: ['ceiling', '1.42'],
  /** PUT of a volume. */
  G065: ['ceiling', '1.42'],
  /** Volumes of a swarm can be asked for. */
  G066: ['request', '1.42'],
  /** The body of a volume's create has another name in Go, and a size that is none is the client's fault (400). */
  volumeRequest: ['ceiling', '1.42'],
  /** /info has null for empty lists of registries. */
  emptyRegistryLists: ['ceiling', '1.42'],
  /** Pings always tell the builder version. */
  G067: ['ceiling', '1.42'],
  /** Pings tell the state of the swarm. */
  G068: ['ceiling', '1.42'],
  /** An empty body is an empty object. */
  G070: ['ceiling', '1.42'],
  /** A body that is no JSON: prefix `invalid JSON: `. */
  G071: ['ceiling', '1.42'],
  /** Create: a bad body is the client's fault (400). */
  G072: ['ceiling', '1.42'],
  /** What follows the JSON is refused. */
  G073: ['ceiling', '1.42'],
  /** New words for a wrong content type. */
  G074: ['ceiling', '1.42'],
  /** Filters that are no JSON are the client's fault (400). */
  G075: ['ceiling', '1.42'],
  /** … and the decoder's detail is left out. */
  G075b: ['ceiling', '1.43'],
  /** `invalid filter` in lower case. */
  G076: ['ceiling', '1.42'],
  /** `invalid signal` in lower case. */
  signalName: ['ceiling', '1.42'],
  /** `unknown or invalid runtime name`. */
  runtimeName: ['ceiling', '1.42'],
  /** Texts that are no mode of the IPC, PID or UTS namespace are refused; before, they meant nothing. */
  namespaceModes: ['ceiling', '1.42'],
  /** Search: a limit that is no number is the client's fault (400), and `limit … is outside` in lower case. */
  G077: ['ceiling', '1.42'],
  /** Image inspect says once that there is no such image. */
  G078: ['ceiling', '1.42'],
  /** A start says which namespace of another container could not be joined. */
  namespaceJoins: ['ceiling', '1.44'],
  /** HostConfig.Annotations. */
  G080: ['request', '1.43'],
  /** An image without names has empty lists, not `<none>`. */
  G081: ['request', '1.43'],
  /** A list of names that is empty is not null. */
  G082: ['request', '1.43'],
  /** /info lists no-new-privileges among the security options. */
  G084: ['ceiling', '1.43'],
  /** Commit: a bad reference is the client's fault (400), and a body need not be there again. */
  G085: ['ceiling', '1.43'],
  /** Push: new words for what stands for a missing X-Registry-Auth and is none. */
  G086: ['ceiling', '1.43'],
  /** Tag and push: a bad reference is the client's fault (400); a tag's is found before the image is looked up. */
  G087: ['ceiling', '1.43'],
  /** A network that needs a swarm is forbidden (403). */
  swarmNetworks: ['ceiling', '1.43'],
  /** An ambiguous ID prefix is the client's fault (400). */
  ambiguousPrefix: ['ceiling', '1.43'],
  /** Filter values: lower case, and bad numbers and unknown containers are the client's fault. */
  filterValues: ['ceiling', '1.43'],
  /** Images lost VirtualSize. */
  G090: ['request', '1.44'],
  /** Image inspect leaves out a missing Created. */
  G091: ['request', '1.44'],
  /** A container may be created on several networks. */
  G092: ['both', '1.44'],
  /** Each endpoint may have its MAC address. */
  G093: ['request', '1.44'],
  /** The container-wide MAC address moves to its endpoint, with a warning. */
  G095: ['request', '1.44'],
  /** Healthcheck.StartInterval. */
  G097: ['request', '1.44'],
  /** Read-only binds are recursively so, unless asked otherwise. */
  G099: ['request', '1.44'],
  /** BindOptions.ReadOnlyForceRecursive. */
  G100: ['both', '1.44'],
  /** BindOptions.ReadOnlyNonRecursive. */
  G101: ['ceiling', '1.44'],
  /** EndpointSettings.DNSNames. */
  G102: ['ceiling', '1.44'],
  /** /info tells of CDI directories. */
  G104: ['ceiling', '1.44'],
  /** The image list's `until` filter. */
  G105: ['ceiling', '1.44'],
  /** No two networks have the same name. */
  G107: ['ceiling', '1.44'],
  /** The address pools of a network are checked as a whole; an empty name is the client's fault (400). */
  G108: ['ceiling', '1.44'],
  /** How a container wants to be on its networks is checked as a whole, and when it is said. */
  G109: ['ceiling', '1.44'],
  /** A network without address pools has null for their list. */
  noPools: ['ceiling', '1.44'],
  /** An empty restart policy is stored as `no`. */
  G112: ['ceiling', '1.44'],
  /** New words for a bad restart policy. */
  G113: ['ceiling', '1.44'],
  /** `config cannot be empty` and `no command specified` in lower case. */
  G114: ['ceiling', '1.44'],
  /** `container … is not running` in lower case. */
  G115: ['ceiling', '1.44'],
  /** New words for the removal of a running container. */
  G116: ['ceiling', '1.44'],
  /** VolumeOptions.Subpath. */
  G119: ['both', '1.45'],
  /** Image inspect lost Container and ContainerConfig. */
  G120: ['both', '1.45'],
  /** Inspect shows the aliases exactly as the client sent them. */
  G121: ['both', '1.45'],
  /** Search: no repository is automated. */
  G122: ['ceiling', '1.45'],
  /** The default network mode is stored as `bridge`. */
  G123: ['ceiling', '1.45'],
  /** `cannot kill container` in lower case. */
  G124: ['ceiling', '1.45'],
  /** Errors are JSON for every client. */
  G125: ['ceiling', '1.45'],
  /** The copy of old, which has long answered nothing but 404, is no route any more. */
  G126: ['ceiling', '1.45'],
  /** What cannot be unpacked to is the client's fault (400). */
  extractionPoint: ['ceiling', '1.43'],
} as const satisfies Record<string, readonly ['request' | 'ceiling' | 'both', string]>;

export type Gate = keyof typeof gates;

/** Routes that newer daemons have no more. */
export const lostRoutes: ReadonlyMap<string, Gate> = new Map([['POST /containers/:id/copy', 'G126']]);

/** Routes that daemons of old do not have. */
export const routeGates: ReadonlyMap<string, Gate> = new Map([
  ['HEAD /_ping', 'G005'],
  ['PUT /volumes/:name', 'G065'],
]);
