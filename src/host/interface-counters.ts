import { readFileSync } from 'node:fs';
import { codeOf } from '../errors.ts';
import { isAbsence } from './files.ts';

/** What has gone through a network interface. */
export interface InterfaceCounters {
  readonly rxBytes: number;
  readonly rxPackets: number;
  readonly rxErrors: number;
  readonly rxDropped: number;
  readonly txBytes: number;
  readonly txPackets: number;
  readonly txErrors: number;
  readonly txDropped: number;
}

/** The interfaces in a process's network namespace, but the loopback; none if the process is gone. */
export function interfaceCountersOf(pid: number): Map<string, InterfaceCounters> {
  const counters = new Map<string, InterfaceCounters>();
  for (const line of deviceTable(pid).split('\n')) {
    const [, name, rest = ''] = /^\s*([^\s:]+):\s*(.*)$/.exec(line) ?? [];
    if (name === undefined || name === 'lo') continue;
    const values = rest.split(/\s+/).map(Number);
    const at = (index: number) => values[index] ?? 0;
    counters.set(name, {
      ...{ rxBytes: at(0), rxPackets: at(1), rxErrors: at(2), rxDropped: at(3) },
      ...{ txBytes: at(8), txPackets: at(9), txErrors: at(10), txDropped: at(11) },
    });
  }
  return counters;
}

function deviceTable(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/net/dev`, 'utf8');
  } catch (cause) {
    // EINVAL: its end has been noticed and not yet collected
    if (isAbsence(cause) || codeOf(cause) === 'ESRCH' || codeOf(cause) === 'EINVAL') return '';
    throw cause;
  }
}
