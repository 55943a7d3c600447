import { fail } from '../errors.ts';
import { run } from '../host/exec.ts';
import type { Runtime } from '../runtime/runtime.ts';
import { tellContainer } from './container-events.ts';
import { type ContainerRecords, isRunning } from './container-records.ts';
import type { Events } from './events.ts';

/** Rows of `ps`, each as many cells as there are titles. */
export interface ProcessList {
  readonly titles: readonly string[];
  readonly processes: readonly (readonly string[])[];
}

const PS_TIMEOUT_MS = 10_000;

/** Lists the processes of containers, by the host's ps. */
export class ProcessLists {
  readonly #records: ContainerRecords;
  readonly #runtime: Pick<Runtime, 'pids'>;
  readonly #events: Events;

  constructor(o: { records: ContainerRecords; runtime: Pick<Runtime, 'pids'>; events: Events }) {
    this.#records = o.records;
    this.#runtime = o.runtime;
    this.#events = o.events;
  }

  /** `psArgs` as ps takes them, `-ef` if empty. Throws 404, 409 if it does not run, and 500 with ps' own words. */
  async top(ref: string, psArgs: string, { signal }: { signal: AbortSignal }): Promise<ProcessList> {
    const args = psArgs === '' ? '-ef' : psArgs;
    checkColumns(args);
    const record = this.#records.find(ref);
    if (record.state.status === 'restarting') throw fail.execRestarting(record.id);
    if (!isRunning(record)) throw fail.notRunning(record.id);
    const pids = await this.#runtime.pids(record.id);
    const list = parseList(await listing(args.split(' '), pids, signal), new Set(pids));
    tellContainer(this.#events, record, 'top');
    return list;
  }
}

/** The rows are found by the title `PID`: no other column may go by that name. */
function checkColumns(args: string): void {
  for (const [, column, title] of args.matchAll(/\s+([^\s]*)=\s*(PID[^\s]*)/g))
    if (column !== 'pid') throw fail.host(`specifying "${column}=${title}" is not allowed`);
}

async function listing(
  args: readonly string[],
  pids: readonly number[],
  signal: AbortSignal,
): Promise<string> {
  const o = { signal, timeoutMs: PS_TIMEOUT_MS };
  const chosen = await run('ps', [...args, `-q${pids.join(',')}`], o);
  if (chosen.code === 0) return chosen.stdout;
  // some options (such as `f`) do not go with a choice of processes
  const { code, stdout, stderr } = await run('ps', args, o);
  if (code === 0) return stdout;
  const [why = ''] = stderr.split('\n');
  throw fail.host(`ps: ${why === '' ? `exit status ${code}` : why}`);
}

/** Picks the rows of these processes, and those of their threads below them. */
function parseList(text: string, pids: ReadonlySet<number>): ProcessList {
  const [heading = '', ...lines] = text.split('\n');
  const titles = fieldsOf(heading);
  const pidColumn = titles.indexOf('PID');
  if (pidColumn === -1) throw fail.host("Couldn't find PID field in ps output");
  const processes: string[][] = [];
  let isWithin = false;
  for (const line of lines) {
    if (line === '') continue;
    const fields = fieldsOf(line);
    const pid = fields[pidColumn] ?? '';
    if (pid !== '-') {
      if (!/^\d+$/.test(pid))
        throw fail.host(`Unexpected pid '${pid}': strconv.Atoi: parsing "${pid}": invalid syntax`);
      isWithin = pids.has(Number(pid));
    }
    if (!isWithin) continue;
    // the last column may hold spaces
    const last = titles.length - 1;
    processes.push([...fields.slice(0, last), fields.slice(last).join(' ')]);
  }
  return { titles, processes };
}

function fieldsOf(line: string): string[] {
  return line.split(/[\t\n\f\r ]+/).filter((field) => field !== '');
}
