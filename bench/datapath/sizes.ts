// SPDX-License-Identifier: Apache-2.0
// Sizes of the data plane: instructions of its programs, bytes of its maps on a node without pods, bytes of one flow. As the
// loader loads it, with the agent's default sizes.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mountBpffs, unmount } from "../../src/kernel/mount.ts";
import { openDatapath } from "../../src/loader/datapath.ts";
import { openInner } from "../../src/maps/table.ts";
import { ALL_ON, OBJECT } from "../../test/support/datapath.ts";

/** Records of an idle node's flow table: src/agent/table-size.ts. */
const DEFAULT_RECORDS = 16_384;

export interface Sizes {
  /** By program: after the verifier's rewriting and removal of dead code, and walked by it. */
  readonly programs: readonly { name: string; instructions: number; walked: number }[];
  readonly maps: readonly { name: string; bytes: number }[];
  readonly bytesPerFlow: number;
  readonly loadMs: number;
}

export async function sizes(): Promise<Sizes> {
  const folder = mkdtempSync(join(tmpdir(), "hlb-"));
  const bpfRoot = join(folder, "bpf");
  mountBpffs(bpfRoot);
  try {
    const tables = { flows: DEFAULT_RECORDS, replies: DEFAULT_RECORDS };
    using datapath = openDatapath({ objectPath: OBJECT, bpfRoot, config: ALL_ON, sizes: tables });
    const maps = datapath.maps.map(({ name }) => {
      using table = datapath.table(name);
      let bytes = table.map.memory();
      if (name === "flows" || name === "replies") {
        for (const inner of openInner(bpfRoot, name)) {
          bytes += inner.map.memory();
          inner.close();
        }
      }
      return { name, bytes };
    });
    const flowBytes = maps
      .filter(({ name }) => name === "flows" || name === "replies")
      .reduce((sum, { bytes }) => sum + bytes, 0);
    return {
      programs: datapath.programs().map(({ name, instructions, verifiedInstructions }) => ({
        name,
        instructions,
        walked: verifiedInstructions,
      })),
      maps,
      bytesPerFlow: flowBytes / DEFAULT_RECORDS,
      loadMs: datapath.loadMs,
    };
  } finally {
    unmount(bpfRoot, { lazy: true });
    rmSync(folder, { recursive: true, force: true });
  }
}
