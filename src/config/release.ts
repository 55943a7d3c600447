import manifest from '../../package.json' with { type: 'json' };

// esbuild puts these in; from the sources they do not exist
declare const SKERRY_COMMIT: string;
declare const SKERRY_BUILT_AT: string;

/** Which program this is, as `GET /version` tells it. */
export interface Release {
  readonly version: string;
  /** Abbreviated git commit; `unbuilt` when run from the sources. */
  readonly commit: string;
  /** RFC 3339: the commit's date, so that two builds of one commit are the same. */
  readonly builtAt: string;
}

export const release: Release = {
  version: manifest.version,
  commit: typeof SKERRY_COMMIT === 'undefined' ? 'unbuilt' : SKERRY_COMMIT,
  builtAt: typeof SKERRY_BUILT_AT === 'undefined' ? '0001-01-01T00:00:00Z' : SKERRY_BUILT_AT,
};
