/** Several faults in one text, as moby's multierror joins them: one stands alone, more are a list. */
export function joinProblems(problems: readonly string[]): string {
  const [only] = problems;
  if (only !== undefined && problems.length === 1) return only.trim();
  return `* ${problems.map((problem) => problem.replaceAll('\n', '\n\t')).join('\n* ')}`;
}
