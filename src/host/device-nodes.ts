/** A device's number in its two halves, out of one number as stat(2) has it: gnu_dev_major(3), as far as Linux goes. */
export function deviceNumber(rdev: number): { major: number; minor: number } {
  return { major: (rdev >>> 8) & 0xfff, minor: (rdev & 0xff) | ((rdev >>> 12) & 0xfff00) };
}
