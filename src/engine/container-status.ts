import { ZERO_TIME } from '../lib/time.ts';
import type { ContainerRecord, ContainerStatus } from './model.ts';

/** A state in Docker's words, which have none for a container that is about to start: it still is what it was. */
export function shownStatus({
  state,
  restartCount,
}: Pick<ContainerRecord, 'state' | 'restartCount'>): ContainerStatus {
  if (state.status !== 'starting') return state.status;
  if (restartCount > 0) return 'restarting';
  return state.startedAt === ZERO_TIME ? 'created' : 'exited';
}

/** It has a process, or is about to have one again: what Docker calls running, and lists. */
export function isUp(record: Pick<ContainerRecord, 'state' | 'restartCount'>): boolean {
  return ['running', 'paused', 'restarting'].includes(shownStatus(record));
}

/** Whole seconds of the last run, in decimal. */
export function ranSeconds({ state }: Pick<ContainerRecord, 'state'>): string {
  return String(Math.trunc((Date.parse(state.finishedAt) - Date.parse(state.startedAt)) / 1000));
}
