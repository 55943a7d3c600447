import type { View } from './container-view.ts';

/** Where a child that reads or writes a container's files does so. */
interface Target {
  readonly view: View;
  readonly path: string;
  /** What the client calls it. */
  readonly container: string;
}

/** What it is told. */
export type FilesJob = LookJob | UnpackJob | ChangesJob;

export interface LookJob extends Target {
  readonly kind: 'stat' | 'pack';
}

/** Tells what is different on stdout: a digit for its kind, its path and a NUL for each. */
export interface ChangesJob {
  readonly kind: 'changes';
  readonly upper: string;
  /** The image's layers, topmost first. */
  readonly lower: readonly string[];
}

export interface UnpackJob extends Target, UnpackWishes {
  readonly kind: 'unpack';
}

export interface UnpackWishes {
  /** The places of the container that are not part of its root file system. */
  readonly mounted: readonly { readonly destination: string; readonly isWritable: boolean }[];
  readonly isRootReadonly: boolean;
  /** Whether a directory may be replaced by something else, and the other way round. */
  readonly keepsKinds: boolean;
  /** Who is to own everything; absent: whom the archive names. */
  readonly owner?: { readonly uid: number; readonly gid: number };
}

/** What is at a path. */
export interface PathFacts {
  readonly name: string;
  readonly sizeBytes: number;
  /** As stat(2) has it, with the bits of its type. */
  readonly mode: number;
  /** Nanoseconds since 1970, in decimal. */
  readonly modifiedNanos: string;
  /** Where a link leads in the end, in the container; empty for what is none. */
  readonly linkTarget: string;
}
