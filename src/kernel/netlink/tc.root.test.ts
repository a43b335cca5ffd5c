// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { closeSync } from "node:fs";
import { after, test } from "node:test";
import { ProgType, progInfo, progLoad } from "../bpf.ts";
import { createNetns, removeNetns } from "../netns.ts";
import { addVeth, deleteLink, getLink } from "./link.ts";
import { openRtNetlink } from "./socket.ts";
import {
  addClsact,
  deleteClsact,
  deleteFilter,
  type FilterPlace,
  hasClsact,
  listFilters,
  replaceFilter,
} from "./tc.ts";

const name = `hlt-${randomBytes(3).toString("hex")}-tc`;
const netns = createNetns(name);
const nl = openRtNetlink(netns);

after(() => {
  nl.close();
  netns.close();
  removeNetns(name);
});

/** r0 = verdict; exit. */
function program(verdict: number): number {
  const instructions = new Uint8Array(16);
  instructions[0] = 0xb7;
  new DataView(instructions.buffer).setInt32(4, verdict, true);
  instructions[8] = 0x95;
  return progLoad({ type: ProgType.schedCls, instructions });
}

test("filters are put, replaced in place, listed and deleted", () => {
  const [one, two] = [program(-1), program(0)];
  nl.apply(addVeth({ name: "hlt0" }, { name: "hlt1" }));
  const device = getLink(nl, "hlt0").index;
  assert.deepEqual(listFilters(nl, device, "ingress"), []);
  assert.ok(!hasClsact(nl, device));
  nl.apply(addClsact(device));
  assert.ok(hasClsact(nl, device));
  assert.throws(() => nl.apply(addClsact(device)), { detail: /^qdisc\.add EEXIST clsact on device/ });

  const place: FilterPlace = { device, direction: "ingress", priority: 7, handle: 1 };
  nl.apply(replaceFilter(place, one, "first"));
  nl.apply(replaceFilter({ ...place, direction: "egress" }, one, "out"));
  nl.apply(replaceFilter({ ...place, priority: 3 }, two, "before"));
  nl.apply(replaceFilter(place, two, "second"));
  const id = progInfo(two).id;
  assert.deepEqual(
    listFilters(nl, device, "ingress").map((f) => [f.priority, f.handle, f.name, f.progId]),
    [
      [3, 1, "before", id],
      [7, 1, "second", id],
    ],
  );
  assert.deepEqual(
    listFilters(nl, device, "egress").map((f) => [f.name, f.progId, f.tag]),
    [["out", progInfo(one).id, progInfo(one).tag]],
  );
  nl.apply(deleteFilter(place));
  assert.deepEqual(
    listFilters(nl, device, "ingress").map((f) => f.name),
    ["before"],
  );
  assert.throws(() => nl.apply(deleteFilter(place)), { detail: /^filter\.delete ENOENT ingress of device/ });
  nl.apply(deleteClsact(device));
  assert.deepEqual(listFilters(nl, device, "egress"), []);
  nl.apply(deleteLink(device));
  closeSync(one);
  closeSync(two);
});
