// SPDX-License-Identifier: Apache-2.0
// DELs that came while the agent was down: one file per container interface in <runDir>/cni/deletes, written by the
// plugin, worked off by the agent. Only root writes there, and a file is believed only if the user of the agent alone can write it.
import { lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { CniAttachment, CniRequest } from "./cni-protocol.ts";

const MAX_FILE_BYTES = 1 << 20;
const SUFFIX = ".json";

/** Folder of the queue below the agent's run directory. */
export function deletesDir(runDir: string): string {
  return join(runDir, "cni", "deletes");
}

/** `<container>@<interface>.json`; a container id begins with a letter or digit and neither part can hold a slash. */
function fileName({ containerId, ifName }: CniAttachment): string {
  return `${encodeURIComponent(containerId)}@${encodeURIComponent(ifName)}${SUFFIX}`;
}

/**
 * Stores a DEL for later; a DEL of the same interface that waits already is replaced.
 * @throws the errors of node:fs
 */
export function queueDelete(runDir: string, request: CniRequest): void {
  const dir = deletesDir(runDir);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const path = join(dir, fileName(request));
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, JSON.stringify(request), { mode: 0o600, flag: "wx" });
  renameSync(draft, path);
}

/** Forgets a waiting DEL: it was done, or its container was added anew. */
export function discardDelete(runDir: string, attachment: CniAttachment): void {
  rmSync(join(deletesDir(runDir), fileName(attachment)), { force: true });
}

/** A file of the queue: its request, or why it is not believed. */
export interface QueuedDelete {
  readonly path: string;
  readonly request?: CniRequest;
  readonly problem?: string;
}

function read(path: string): QueuedDelete {
  const stat = lstatSync(path);
  if (!stat.isFile()) return { path, problem: "not a regular file" };
  if (stat.uid !== process.getuid?.() || (stat.mode & 0o022) !== 0) {
    return { path, problem: "writable by others than the agent" };
  }
  if (stat.size > MAX_FILE_BYTES) return { path, problem: `larger than ${MAX_FILE_BYTES} bytes` };
  try {
    const request = JSON.parse(readFileSync(path, "utf8")) as CniRequest | null;
    if (typeof request?.containerId === "string" && typeof request.ifName === "string")
      return { path, request };
    return { path, problem: "no container id or interface name in it" };
  } catch (thrown) {
    return { path, problem: thrown instanceof Error ? thrown.message : String(thrown) };
  }
}

/** What waits, in no particular order; an absent folder is an empty queue. Files half written are left out. */
export function queuedDeletes(runDir: string): QueuedDelete[] {
  const dir = deletesDir(runDir);
  let names: string[];
  try {
    names = readdirSync(dir);
  } catch {
    return [];
  }
  return names.filter((name) => name.endsWith(SUFFIX)).map((name) => read(join(dir, name)));
}
