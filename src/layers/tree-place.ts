/** Where the tree of a layer can be built: on the disk, or in memory. */

/** What stands at a place; Node's `Stats` fit. */
export interface Found {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly nlink: number;
  readonly rdev: number;
  isFile(): boolean;
  isDirectory(): boolean;
  isSymbolicLink(): boolean;
  isCharacterDevice(): boolean;
}

/** A tree that can be looked at. Names are clean byte strings; the empty one is the tree itself. */
export interface TreeView {
  /** What is there, links not followed; undefined if nothing is. */
  look(path: string): Found | undefined;
  readLink(path: string): string;
  namesIn(directory: string): string[];
}

/** A tree in which things come and go. What is made is made exclusively, or it throws `EEXIST`; links are not followed. */
export interface TreeMaker {
  /** An empty file, to be filled and settled by its descriptor. */
  makeFile(path: string, mode: number): number;
  makeDirectory(path: string, mode: number): void;
  makeLink(path: string, target: string): void;
  makeHardLink(path: string, existing: string): void;
  makeNode(path: string, mode: number, device: { major: number; minor: number }): void;
  removeFile(path: string): void;
  removeDirectory(path: string): void;
}

/** What its inodes are given, by path or descriptor. Times are seconds. */
export interface TreeSettings {
  /** New things get exactly the owner 0:0 and the mode that is asked for, but for the special bits. */
  readonly isExact: boolean;
  setOwner(at: string | number, uid: number, gid: number): void;
  /** Not of a link: it would be followed. */
  setMode(at: string | number, mode: number): void;
  setXattr(path: string, name: string, value: Buffer): void;
  setTimes(at: string | number, accessedAt: number, modifiedAt: number): void;
  setSize(fd: number, bytes: number): void;
  close(fd: number): void;
}
