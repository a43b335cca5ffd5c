// SPDX-License-Identifier: Apache-2.0
// Pins: where maps, links and programs live in a bpffs, so that they outlast the agent. Under the root, `maps/NAME` is a map of
// bpf/abi/maps.h, `links/HOOK_IFINDEX` a program on a native device and `programs/NAME` one that the CLI runs; `layouts/NAME` is a
// symbolic link whose target is no path but the layout of that map's entries (layout.ts), the only kind of text that a bpffs keeps.
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
} from "node:fs";
import { dirname } from "node:path";
import { type MapInfo, objGet, objPin } from "../kernel/bpf.ts";
import { isErrno } from "../kernel/errno.ts";
import { isBpffs } from "../kernel/mount.ts";
import { faults } from "./faults.ts";

export function mapPin(bpfRoot: string, name: string): string {
  return `${bpfRoot}/maps/${name}`;
}

function layoutPath(bpfRoot: string, name: string): string {
  return `${bpfRoot}/layouts/${name}`;
}

export function linkPin(bpfRoot: string, hook: string, ifindex: number): string {
  return `${bpfRoot}/links/${hook}_${ifindex}`;
}

export function programPin(bpfRoot: string, name: string): string {
  return `${bpfRoot}/programs/${name}`;
}

/** What lies under the root. */
const FOLDERS = ["links", "programs", "maps", "layouts"] as const;

/** Makes the folders for pins, for root only. @throws Fault NOT_BPFFS if `bpfRoot` does not lie in a bpffs */
export function makePinFolders(bpfRoot: string): void {
  let existing = bpfRoot;
  while (!existsSync(existing)) existing = dirname(existing);
  if (!isBpffs(existing)) throw faults.NOT_BPFFS({ path: bpfRoot });
  for (const folder of FOLDERS) mkdirSync(`${bpfRoot}/${folder}`, { recursive: true, mode: 0o700 });
}

/** fd of what is pinned at `path`, or undefined if nothing is. */
export function openPin(path: string, readOnly = false): number | undefined {
  try {
    return objGet(path, readOnly);
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return undefined;
    throw thrown;
  }
}

/** Pins a map under its name, in the place of another one, with the layout of its entries beside it. */
export function pinMap(bpfRoot: string, map: { name: string; fd: number; layout: string }): void {
  const path = mapPin(bpfRoot, map.name);
  unpin(path);
  writeLayout(bpfRoot, map);
  objPin(map.fd, path);
}

/** Pins a program under its name, in the place of another one: whoever asks for it meanwhile gets the one or the other. */
export function pinProgram(bpfRoot: string, name: string, fd: number): void {
  const path = programPin(bpfRoot, name);
  const fresh = `${path}_new`;
  unpin(fresh);
  objPin(fd, fresh);
  renameSync(fresh, path);
}

/** Says how the entries of a pinned map are laid out; nothing if the release does not know the map. */
export function writeLayout(bpfRoot: string, { name, layout }: { name: string; layout: string }): void {
  const path = layoutPath(bpfRoot, name);
  unpin(path);
  if (layout !== "") symlinkSync(layout, path);
}

/** Undefined if a release has pinned the map that did not say. */
export function readLayout(bpfRoot: string, name: string): string | undefined {
  try {
    return readlinkSync(layoutPath(bpfRoot, name));
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return undefined;
    throw thrown;
  }
}

/** False if nothing was pinned there. What was pinned lives on while something else holds it. */
export function unpin(path: string): boolean {
  try {
    unlinkSync(path);
    return true;
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return false;
    throw thrown;
  }
}

/** Paths of all pins under the root. */
export function listPins(bpfRoot: string, folder: (typeof FOLDERS)[number]): string[] {
  try {
    return readdirSync(`${bpfRoot}/${folder}`).map((name) => `${bpfRoot}/${folder}/${name}`);
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return [];
    throw thrown;
  }
}

/** Takes away every pin and folder under the root: native devices lose their programs, maps their entries. */
export function removePins(bpfRoot: string): void {
  for (const folder of FOLDERS) {
    for (const path of listPins(bpfRoot, folder)) unpin(path);
    if (existsSync(`${bpfRoot}/${folder}`)) rmdirSync(`${bpfRoot}/${folder}`);
  }
  try {
    rmdirSync(bpfRoot);
  } catch (thrown) {
    // The root may be where the file system is mounted.
    if (!["ENOENT", "EBUSY"].includes((thrown as NodeJS.ErrnoException).code ?? "")) throw thrown;
  }
}

/** What must be equal for programs to use an existing map; sizes may differ. */
export type MapLayout = Pick<MapInfo, "type" | "keySize" | "valueSize" | "flags">;

/** Flags that say how fds may be used, not how entries are laid out (BPF_F_RDONLY, BPF_F_WRONLY). */
const ACCESS_FLAGS = 0x18;

/** How an existing map differs from what is wanted, one phrase per field; none if it fits. */
export function layoutDifferences(existing: MapLayout, wanted: MapLayout): string[] {
  const fields: [string, number, number][] = [
    ["type", existing.type, wanted.type],
    ["key size", existing.keySize, wanted.keySize],
    ["value size", existing.valueSize, wanted.valueSize],
    ["flags", existing.flags & ~ACCESS_FLAGS, wanted.flags & ~ACCESS_FLAGS],
  ];
  return fields
    .filter(([, is, wants]) => is !== wants)
    .map(([what, is, wants]) => `${what} ${is}, wanted ${wants}`);
}

/** @throws Fault PIN_MISMATCH that names the fields */
export function checkLayout(name: string, path: string, existing: MapLayout, wanted: MapLayout): void {
  const differences = layoutDifferences(existing, wanted);
  if (differences.length > 0) throw faults.PIN_MISMATCH({ name, path, why: differences.join(", ") });
}
