import { fail } from '../errors.ts';
import { parseDetachKeys } from '../lib/detach-keys.ts';
import { readJson } from './body.ts';
import { sizeOf } from './container-io.ts';
import type { ApiContext } from './context.ts';
import type { ExecRequest, ExecView } from './engine-views.ts';
import { answerEmpty, answerJson } from './respond.ts';
import { Router } from './router.ts';
import { type AttachSession, serveSession } from './session.ts';
import type { Wire } from './shapes.ts';
import { list, pair, struct, text, trueOrFalse } from './wire.ts';

/** What the routes need of the engine's execs. */
export interface Execs {
  create(containerRef: string, request: ExecRequest): Promise<string>;
  /** The process starts when the session is pumped, and tells in it what goes wrong from then on. */
  start(id: string, o: { isTty: boolean; consoleSize?: [number, number] }): Promise<AttachSession>;
  startDetached(id: string): Promise<void>;
  inspect(id: string): ExecView | Promise<ExecView>;
  resize(id: string, size: { rows: number; columns: number }, o: { signal: AbortSignal }): Promise<void>;
}

const execConfig = struct<Omit<ExecRequest, 'cmd'> & { cmd: string[] | null }>(
  'ExecConfig',
  'types.ExecConfig',
  {
    user: ['User', text],
    privileged: ['Privileged', trueOrFalse],
    tty: ['Tty', trueOrFalse],
    consoleSize: ['ConsoleSize', pair, 'pointer'],
    attachStdin: ['AttachStdin', trueOrFalse],
    attachStderr: ['AttachStderr', trueOrFalse],
    attachStdout: ['AttachStdout', trueOrFalse],
    detachKeys: ['DetachKeys', text],
    env: ['Env', list(text)],
    workingDir: ['WorkingDir', text],
    cmd: ['Cmd', list(text)],
  },
);

const execStart = struct<{ isDetached: boolean; isTty: boolean; consoleSize?: [number, number] }>(
  'ExecStartCheck',
  'types.ExecStartCheck',
  {
    isDetached: ['Detach', trueOrFalse],
    isTty: ['Tty', trueOrFalse],
    consoleSize: ['ConsoleSize', pair, 'pointer'],
  },
);

export function execRoutes(execs: Execs): Router {
  const router = new Router();

  /** 201, 400 without a command, 404 no such container, 409 it does not run. */
  router.post('/containers/:id/exec', async (ctx, id) => {
    const request = await execRequest(ctx);
    answerJson(ctx, { Id: await execs.create(id, request) }, 201);
  });

  /** 101 or 200 and a stream of bytes, 200 and nothing if detached; 404 no such exec, 409 it cannot run now. */
  router.post('/exec/:id/start', async (ctx, id) => {
    const { isDetached, ...o } = await startWish(ctx);
    if (isDetached) {
      await execs.startDetached(id);
      return answerEmpty(ctx, 200);
    }
    const session = await execs.start(id, o);
    await serveSession(ctx, session, { tells: ctx.state.axes.has('G042'), withDaemonHeaders: true });
  });

  /** 200, 404 no such exec. */
  router.get('/exec/:id/json', async (ctx, id) => answerJson(ctx, execWire(await execs.inspect(id))));

  /** 200, 400 without two numbers, 404 no such exec or over, 409 it cannot run now, 500 it has not started in time. */
  router.post('/exec/:id/resize', async (ctx, id) => {
    await execs.resize(id, sizeOf(ctx), { signal: ctx.state.signal });
    answerEmpty(ctx, 200);
  });

  return router;
}

async function execRequest(ctx: ApiContext): Promise<ExecRequest> {
  const { cmd, consoleSize, ...request } = await readJson(ctx, execConfig);
  if (cmd === null || cmd.length === 0) throw fail.badRequest('No exec command specified');
  return { ...request, cmd, ...(consoleSize !== undefined && ctx.state.axes.has('G047') && { consoleSize }) };
}

async function startWish(
  ctx: ApiContext,
): Promise<{ isDetached: boolean; isTty: boolean; consoleSize?: [number, number] }> {
  const { consoleSize, ...wish } = await readJson(ctx, execStart);
  const takesSize = wish.isTty && ctx.state.axes.has('G048');
  return { ...wish, ...(consoleSize !== undefined && takesSize && { consoleSize }) };
}

/** The answer to `GET /exec/ID/json`. */
function execWire({ id, containerId, request, isRunning, exitCode, pid, isStale }: ExecView): Wire {
  const [entrypoint = '', ...args] = request.cmd;
  return {
    ID: id,
    Running: isRunning,
    ExitCode: exitCode ?? null,
    ProcessConfig: {
      tty: request.tty,
      entrypoint,
      arguments: args,
      privileged: request.privileged,
      ...(request.user !== '' && { user: request.user }),
    },
    OpenStdin: request.attachStdin,
    OpenStderr: request.attachStderr,
    OpenStdout: request.attachStdout,
    CanRemove: isStale,
    ContainerID: containerId,
    // bytes, as Go writes them
    DetachKeys: request.detachKeys === '' ? '' : parseDetachKeys(request.detachKeys).toString('base64'),
    Pid: pid,
  };
}
