import type { Digest } from '../lib/digest.ts';
import type { ExtractedLayer, ExtractionJob } from './extraction.ts';
import type { ChildFailure } from './layer-child.ts';

/** A layer, and the directory in which it lies or is to lie. */
export interface LayerPlace {
  readonly diffId: Digest;
  readonly directory: string;
}

/** A layer that may serve as base: one of our own, or one in a directory that is only read. */
export type BaseLayer = LayerPlace | { readonly diffId: Digest; readonly dirId: string };

/** The image that a delta must lead to. */
export interface DeltaGoal {
  readonly manifestDigest: Digest;
  readonly imageId: Digest;
}

/** What is asked of a delta. */
export interface DeltaOrder {
  readonly leaseId: string;
  readonly goal: DeltaGoal;
  /** Layers that are here and may serve as base. */
  readonly base: readonly BaseLayer[];
  /** The layers to make. */
  readonly diffIds: readonly Digest[];
  readonly maxBytes?: number;
  readonly onProgress?: (deltaBytes: number) => void;
  readonly signal: AbortSignal;
}

/** What a child that makes layers of a delta is told. The whole delta comes on its stdin. */
export interface DeltaJob {
  readonly goal: DeltaGoal;
  /** Layers that may serve as base: more than the delta wants is fine. */
  readonly base: readonly LayerPlace[];
  /** The layers to make; each directory holds an empty `diff/`. */
  readonly layers: readonly LayerPlace[];
  /** More tar than this, of all of them together, is a failure. */
  readonly maxBytes?: number;
}

/** What came of it: what was proven before something went wrong stays made. */
export interface MadeLayers {
  readonly layers: readonly ExtractedLayer[];
  readonly failure?: ChildFailure;
}

/** What a child that makes one layer of a patch is told; the patch, in a tar, comes on its stdin. */
export interface PatchJob extends ExtractionJob {
  readonly diffId: Digest;
  /** The layers whose tars are patched, one behind the other: lowest first, each as often as it stands in the image. */
  readonly base: readonly LayerPlace[];
}
