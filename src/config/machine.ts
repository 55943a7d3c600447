import { readFileSync } from 'node:fs';
import { deviceTreeModel, platform } from '../host/facts.ts';
import type { Machine } from './boards.ts';

/** The machine this runs on, as far as board profiles ask. */
export function readMachine(): Machine {
  return {
    architecture: platform().architecture,
    deviceTreeModel: deviceTreeModel(),
    dmiProduct: dmiProduct(),
  };
}

/** The name that an x86 board's maker gave it (`NUC11TNHi5`); undefined where there is no DMI table, or none to see. */
function dmiProduct(): string | undefined {
  try {
    return readFileSync('/sys/class/dmi/id/product_name', 'utf8').trim() || undefined;
  } catch {
    return undefined;
  }
}
