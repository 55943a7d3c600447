/**
 * librsync's delta format, as librsync 0.9.6 and later, `rdiff` and balenaEngine write it; numbers in big endian:
 *
 *     u32 0x72730236
 *     command*
 *     00                                    the end
 *
 *     01 … 40  bytes                        a literal of 1 to 64 bytes
 *     41 … 44  length  bytes                a literal; the length takes 1, 2, 4 or 8 bytes
 *     45 … 54  position  length             a copy from the base; 45 + 4 × width of the position + width of the length
 */
export const DELTA_MAGIC = 0x72730236;
export const OP_END = 0x00;
export const LAST_SHORT_LITERAL = 0x40;
export const FIRST_LITERAL = 0x41;
export const FIRST_COPY = 0x45;
export const LAST_COPY = 0x54;
/** Bytes that a number may take, by its code. */
export const WIDTHS = [1, 2, 4, 8] as const;
