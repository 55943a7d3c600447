import { type Digest, digestOf } from './digest.ts';

/** The chain IDs of a stack of layers, lowest first (OCI image-spec v1.1, config.md, Layer ChainID). */
export function chainIds(diffIds: readonly Digest[]): Digest[] {
  const chain: Digest[] = [];
  for (const diffId of diffIds) {
    const parent = chain.at(-1);
    chain.push(parent === undefined ? diffId : digestOf(`${parent} ${diffId}`));
  }
  return chain;
}
