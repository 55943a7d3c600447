import { mkdir, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { createApp } from './api/app.ts';
import { serverOptions } from './api/server.ts';
import { type Config, loadConfig } from './config.ts';
import { Engine } from './engine/engine.ts';
import { Registries } from './engine/registries.ts';
import { System } from './engine/system.ts';
import { fail, messageOf } from './errors.ts';
import { readCgroupLayout, removeEmptyCgroup } from './host/cgroup.ts';
import { readCgroupLimits } from './host/cgroup-limits.ts';
import { isRoot } from './host/facts.ts';
import { inheritedSockets, listenUnix, notifySystemd } from './host/sockets.ts';
import { DeltaMaker } from './layers/delta-maker.ts';
import { FileJobs } from './layers/file-jobs.ts';
import { Layers } from './layers/layers.ts';
import { Disposal } from './lib/disposal.ts';
import type { Log } from './lib/log.ts';
import { withResolvers } from './lib/promises.ts';
import { Networks } from './network/networks.ts';
import { Registry } from './registry/registry.ts';
import { Runtime } from './runtime/runtime.ts';
import { readSeccomp } from './runtime/seccomp.ts';
import { Store } from './store/store.ts';

/** Opens every part, lowest first, and joins them. What is opened is closed again by `disposal`, in reverse. */
async function openEngine(config: Config, logOf: (part: string) => Log, disposal: Disposal) {
  const { dataRoot, execRoot, board } = config;
  await mkdir(dataRoot, { recursive: true, mode: 0o710 });
  await mkdir(execRoot, { recursive: true, mode: 0o711 });
  const cgroups = await readCgroupLayout();
  const limits = readCgroupLimits(cgroups);
  disposal.defer(() => removeEmptyCgroup(cgroups, config.cgroupParent));
  const store = disposal.use(
    await Store.open({ dir: join(dataRoot, 'db'), ...board.store, log: logOf('store') }),
  );
  const childPath = fileURLToPath(new URL('./extract-layer.js', import.meta.url));
  const layers = await Layers.open({
    dataRoot,
    childPath,
    parallel: board.pull.parallelExtractions,
    log: logOf('layers'),
  });
  const registry = disposal.use(
    new Registry({
      mirrors: config.registryMirrors,
      insecure: config.insecureRegistries,
      proxies: config.proxies,
      certificates: config.certificates,
      maxAttempts: config.maxDownloadAttempts,
      userAgent: `skerry/${config.release.version} (linux)`,
      log: logOf('registry'),
    }),
  );
  const { runtimes, defaultRuntime } = config;
  const runtime = disposal.use(
    await Runtime.open({ execRoot, runtimes, defaultRuntime, cgroups, log: logOf('runtime') }),
  );
  const networks = disposal.use(
    await Networks.open({
      name: config.bridge,
      ...{ bip: config.bip, fixedCidr: config.fixedCidr, defaultGateway: config.defaultGateway },
      ...{ isIpv6: config.ipv6, bip6: config.bip6, fixedCidrV6: config.fixedCidrV6 },
      defaultGatewayV6: config.defaultGatewayV6,
      addressPools: config.addressPools,
      mtu: config.mtu,
      isIcc: config.icc,
      isMasquerade: config.ipMasq,
      isForwarding: config.ipForward,
      log: logOf('network'),
    }),
  );
  const { dns, dnsSearch, dnsOptions } = config;
  const engine = disposal.use(
    await Engine.open({
      store,
      layers,
      deltaMaker: new DeltaMaker({ dataRoot, childPath }),
      fileJobs: new FileJobs({ childPath }),
      registry,
      runtime,
      networks,
      defaultNetworkOptions: config.defaultNetworkOptions,
      dataRoot,
      execRoot,
      resolver: { dns, dnsSearch, dnsOptions },
      hostGateway: config.hostGatewayIp ?? networks.hostGateway,
      limits,
      release: config.release.version,
      parallelDownloads: config.maxConcurrentDownloads,
      parallelUploads: config.maxConcurrentUploads,
      supervisorCompat: config.supervisorCompat,
      deltas: config.deltas,
      deltaDataRoot: config.deltaDataRoot,
      pullLeaseMs: config.pullLeaseMs,
      keepGenerations: config.keepGenerations,
      pullSpoolAboveBytes: config.pullSpoolAboveBytes,
      containers: {
        cgroupParent: config.cgroupParent,
        init: config.init,
        initPath: config.initPath,
        security: { noNewPrivileges: config.noNewPrivileges, seccomp: readSeccomp(config.seccompProfile) },
        ulimits: config.ulimits,
        cdiDirectories: config.cdiDirectories,
        shmBytes: config.shmBytes,
        ipcMode: config.ipcMode,
        cgroupnsMode: config.cgroupnsMode,
        logs: config.logs,
      },
      log: logOf,
    }),
  );
  const system = new System({
    facts: {
      dataRoot,
      labels: config.labels,
      isDebug: config.logLevel === 'debug',
      loggingDriver: config.logs.driver,
      limits,
      noNewPrivileges: config.noNewPrivileges,
      seccompProfile: config.seccompProfile,
      hasOwnCgroups: (config.cgroupnsMode ?? (limits.version === 2 ? 'private' : 'host')) === 'private',
      initProgram: config.initPath ?? 'docker-init',
      cdiDirectories: config.cdiDirectories,
      runtimes: Object.fromEntries(runtime.names().map((name) => [name, runtimes[name] ?? { path: name }])),
      defaultRuntime: runtime.defaultName,
      insecureRegistries: config.insecureRegistries,
      mirrors: config.registryMirrors,
      addressPools: config.addressPools,
      proxies: config.proxies,
      commit: config.release.commit,
      builtAt: config.release.builtAt,
      ...(config.supervisorCompat && { engineName: 'balena-engine' }),
      warnings: runtime.warnings,
      componentVersions: () => runtime.versions(),
    },
    records: engine.records,
    store,
    events: engine.events,
  });
  return { engine, system, registries: new Registries({ registry }) };
}

/** Lets a server listen on each configured address. */
async function serve(config: Config, newServer: () => Server, disposal: Disposal): Promise<void> {
  const listen = async (open: (server: Server) => Promise<void>) => {
    const server = newServer();
    disposal.defer(() => {
      server.close();
      server.closeAllConnections();
    });
    await open(server);
  };
  for (const host of config.hosts) {
    if (host.startsWith('unix://')) {
      const o = { mode: 0o660, ...(config.group !== undefined && { group: config.group }) };
      await listen((server) => listenUnix(server, host.slice('unix://'.length), o));
      continue;
    }
    const inherited = inheritedSockets(process.env);
    if (inherited.length === 0) throw fail.config('fd://: systemd handed over no sockets');
    for (const fd of inherited) await listen(async (server) => void server.listen({ fd }));
  }
}

/** The daemon's whole life: open, serve, and on SIGTERM or SIGINT close again. Containers are none of its ends. */
async function run(config: Config): Promise<void> {
  if (!isRoot()) throw fail.config('skerryd needs to be run as root');
  const log = pino({ level: config.logLevel, base: null });
  const logOf = (part: string): Log => log.child({ part });
  for (const warning of config.warnings) log.warn(warning);
  const { promise: told, resolve: tell } = withResolvers<NodeJS.Signals>();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, tell);
  const disposal = new Disposal();
  try {
    const { engine, system, registries } = await openEngine(config, logOf, disposal);
    const app = createApp({
      engine: { ...engine, system, registries },
      ceiling: config.apiVersionCeiling,
      floor: config.apiVersionFloor,
      release: config.release.version,
      isExperimental: config.experimental,
      log: logOf('api'),
    });
    await writeFile(config.pidfile, `${process.pid}\n`);
    disposal.defer(() => rm(config.pidfile, { force: true }));
    await serve(config, () => app.attach(createServer(serverOptions)), disposal);
    await notifySystemd('READY=1');
    log.info({ hosts: config.hosts, board: config.board.name, version: config.release.version }, 'serving');
    await engine.applyPolicies();
    const signal = await told;
    log.info({ signal }, 'shutting down; containers run on');
    await notifySystemd('STOPPING=1');
    await app.drain(config.shutdownTimeoutMs);
  } finally {
    await disposal[Symbol.asyncDispose]();
  }
}

const invocation = loadConfig(process.argv.slice(2), process.env);
if (invocation.kind === 'print') {
  (invocation.exitCode === 0 ? process.stdout : process.stderr).write(invocation.text);
  process.exitCode = invocation.exitCode;
} else {
  run(invocation.config).then(
    () => process.exit(0),
    (cause: unknown) => {
      process.stderr.write(`skerryd: ${messageOf(cause)}\n`);
      process.exit(1);
    },
  );
}
