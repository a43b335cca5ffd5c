// SPDX-License-Identifier: Apache-2.0
// A record may be under way between two tables while a packet looks for it. Should a look ever miss it, that costs the packet and
// not the connection: nobody is told by a RST before there was a second look. In a copy of the data plane whose first look misses
// every record, and in one without the second look.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type Change, compileChanged } from "../../bench/shapes/growth.ts";
import { ALL_ON } from "../support/datapath.ts";
import { INTERNET, POD_A } from "../support/packet-node.ts";
import { reset, send } from "../support/packet-rows.ts";
import { FAMILIES, fromPodA, Rig, TCP } from "../support/transports.ts";

const PORT = 45000;
const MISSES: Change = { file: "hook/from_pod.h", from: "	flow_find(p);", to: "	keep_tuple(p);" };
const ONE_LOOK: Change = { file: "stage/refuse.h", from: " || flow_find(p) != DIRECTION_NONE", to: "" };

let rig: Rig;
before(() => {
  rig = new Rig();
});
after(() => rig?.close());

for (const [what, changes, verdict] of [
  ["costs a packet, not the connection", [MISSES], "drop"],
  ["would end the connection without the second look", [MISSES, ONE_LOOK], "redirect"],
] as const) {
  test(`a record that is missed once ${what}`, () => {
    const folder = mkdtempSync(join(tmpdir(), "hlt-refuse-"));
    try {
      const bench = rig.load(ALL_ON, undefined, compileChanged(changes, folder));
      bench.datapath.permitResets();
      for (const f of FAMILIES) {
        reset(bench);
        const [opens, goesOn] = [TCP.open, TCP.more].map((say) => say(fromPodA(f, POD_A, INTERNET), PORT, f));
        assert.ok(opens && goesOn);
        assert.equal(send(bench, "from_pod", "hla", opens), "redirect");
        assert.equal(send(bench, "from_pod", "hla", goesOn), verdict);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
}
