/** How many batches stay before they are removed again. */
export const keep = 40;
/** How many batches are under way at once. */
export const lanes = 4;

/** The keys that one batch writes together. */
export function partKeys(n: number): string[] {
  return n < 0 ? [] : ['a', 'b', 'c'].map((part) => `${part}${String(n).padStart(8, '0')}`);
}
