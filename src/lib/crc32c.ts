let table: Int32Array | undefined;

/** CRC-32C (Castagnoli), the checksum of LevelDB, iSCSI and ext4. */
export function crc32c(bytes: Uint8Array): number {
  table ??= makeTable();
  let crc = -1;
  // by index: six times as fast as for…of
  for (let at = 0; at < bytes.length; at++) crc = (table[(crc ^ (bytes[at] ?? 0)) & 0xff] ?? 0) ^ (crc >>> 8);
  return ~crc >>> 0;
}

function makeTable(): Int32Array {
  return Int32Array.from({ length: 256 }, (_, index) => {
    let crc = index;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    return crc;
  });
}
