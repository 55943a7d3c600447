import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { boards, detectBoard, findBoard, nodeFlags } from '../../../src/config/boards.ts';

const directory = new URL('../../../boards/', import.meta.url);

test('every file in boards/ is built in under its own name', () => {
  const files = readdirSync(directory)
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.replace(/\.json$/, ''));
  assert.deepEqual(
    boards()
      .map(({ name }) => name)
      .toSorted(),
    files.toSorted(),
  );
});

test('each architecture has exactly one generic profile', () => {
  const generic = boards().filter(({ detect }) => detect.deviceTree.length + detect.dmi.length === 0);
  assert.deepEqual(generic.map(({ architecture }) => architecture).toSorted(), ['amd64', 'arm', 'arm64']);
});

test('the figures fit the memory: heap, store and extractions in at most half of it', () => {
  const megabytes = { '512M': 512, '1G': 1024, '2G': 2048, '4G': 4096, '8G': 8192 };
  for (const { name, heap, store, pull, ramClass } of boards()) {
    const storeMb = (store.cacheBytes + 2 * store.writeBufferBytes) / 1048576;
    const wanted = heap.oldSpaceMb + storeMb + pull.parallelExtractions * 75;
    assert.ok(wanted <= megabytes[ramClass] / 2, `${name} wants ${wanted} MB`);
    assert.ok(pull.parallelExtractions <= pull.parallelDownloads, name);
  }
});

test('boards are found by the name that their firmware gives them', () => {
  const found: [string, string, string][] = [
    ['arm64', 'Raspberry Pi Zero 2 W Rev 1.0', 'raspberrypi-zero2-w'],
    ['arm64', 'Raspberry Pi 3 Model A Plus Rev 1.0', 'raspberrypi-zero2-w'],
    ['arm64', 'Raspberry Pi 3 Model B Plus Rev 1.3', 'raspberrypi3-64'],
    ['arm64', 'Raspberry Pi Compute Module 3 Plus Rev 1.0', 'raspberrypi3-64'],
    ['arm64', 'Raspberry Pi 4 Model B Rev 1.4', 'raspberrypi4-64'],
    ['arm64', 'Raspberry Pi 400 Rev 1.0', 'raspberrypi4-64'],
    ['arm64', 'Raspberry Pi Compute Module 4S Rev 1.0', 'raspberrypi4-64'],
    ['arm64', 'Raspberry Pi 5 Model B Rev 1.1', 'raspberrypi5'],
    ['arm64', 'Raspberry Pi 500 Rev 1.0', 'raspberrypi5'],
    ['arm64', 'NVIDIA Jetson Nano 2GB Developer Kit', 'jetson-nano'],
    ['arm64', 'NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super', 'jetson-orin-nano'],
    ['arm64', 'Radxa ROCK 5B', 'generic-aarch64'],
    ['arm', 'Raspberry Pi 4 Model B Rev 1.4', 'generic-armv7'],
  ];
  for (const [architecture, deviceTreeModel, name] of found) {
    assert.equal(detectBoard({ architecture, deviceTreeModel }).board.name, name, deviceTreeModel);
  }
  assert.equal(detectBoard({ architecture: 'amd64', dmiProduct: 'NUC11TNHi5' }).board.name, 'intel-nuc');
  assert.equal(detectBoard({ architecture: 'amd64', dmiProduct: 'OptiPlex' }).board.name, 'generic-amd64');
  assert.equal(detectBoard({ architecture: 'amd64' }).board.name, 'generic-amd64');
});

test('a detection says what it went by', () => {
  assert.equal(
    detectBoard({ architecture: 'arm64', deviceTreeModel: 'Raspberry Pi 500 Rev 1.0' }).reason,
    'device tree model "Raspberry Pi 500 Rev 1.0"',
  );
  assert.equal(detectBoard({ architecture: 'amd64', dmiProduct: 'X' }).reason, 'no profile for "X"');
  assert.throws(() => detectBoard({ architecture: 'riscv64' }), /no board profile is made for riscv64/);
});

test("a profile of one's own is read from its path, and what is wrong with it is named", () => {
  const dir = mkdtempSync(join(tmpdir(), 'skerry-board-'));
  try {
    const path = join(dir, 'own.json');
    const own = { ...findBoard('raspberrypi5'), name: 'own' };
    writeFileSync(path, JSON.stringify(own));
    assert.equal(findBoard(path)?.name, 'own');
    writeFileSync(path, JSON.stringify({ ...own, pull: { parallelDownloads: 0, parallelExtractions: 1 } }));
    assert.throws(() => findBoard(path), /own\.json: pull\.parallelDownloads: must be at least 1 \(is 0\)/);
    writeFileSync(path, JSON.stringify({ ...own, colour: 'green' }));
    assert.throws(() => findBoard(path), /own\.json: colour: is not a known key/);
    assert.throws(() => findBoard(join(dir, 'none.json')), /none\.json: ENOENT/);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("Node's flags follow from the profile, and Node takes them", () => {
  const board = findBoard('raspberrypi-zero2-w') ?? assert.fail();
  const flags = nodeFlags(board);
  assert.deepEqual(flags.slice(0, 2), ['--max-old-space-size=96', '--max-semi-space-size=1']);
  const { status, stderr } = spawnSync(process.execPath, [...flags, '--eval', '0'], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
});
