// SPDX-License-Identifier: Apache-2.0
// A sweep that fails, of a real loaded data plane: it is told, and what was asked of it is done by the next one.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { after, test } from "node:test";
import { FlowTable } from "../../src/agent/flow-table.ts";
import { waitFor } from "../../src/base/async.ts";
import { silentLog } from "../../src/base/log.ts";
import { mountBpffs, unmount } from "../../src/kernel/mount.ts";
import { createNetns, removeNetns } from "../../src/kernel/netns.ts";
import { openDatapath } from "../../src/loader/datapath.ts";
import { FlowState, MasqueradeRule } from "../../src/maps/gen/verdict.ts";
import { openInner } from "../../src/maps/table.ts";
import { nowTicks } from "../../src/maps/ticks.ts";
import { ALL_ON, OBJECT } from "../support/datapath.ts";

const name = `hlt-${randomBytes(3).toString("hex")}-sweep`;
const netns = createNetns(name);
const bpffs = mkdtempSync(`${tmpdir()}/hlt-bpf-`);
mountBpffs(bpffs);

after(() => {
  netns.close();
  removeNetns(name);
  unmount(bpffs, { lazy: true });
  rmSync(bpffs, { recursive: true });
});

test("a sweep that fails is told and tried again, with the addresses that were lost", async () => {
  const size = { flows: 1024, replies: 1024 };
  using datapath = openDatapath({ objectPath: OBJECT, bpfRoot: bpffs, config: ALL_ON, sizes: size, netns });
  const [flows] = openInner(bpffs, "flows");
  assert.ok(flows);
  const now = nowTicks();
  const [saddr, daddr] = ["10.0.0.9", "192.0.2.1"];
  flows.set(
    { saddr, daddr, sport: 4000, dport: 443, proto: 6 },
    {
      ...{ xsaddr: "172.20.0.99", xdaddr: daddr, xsport: 4000, xdport: 443, proxyPort: 0, service: 0 },
      ...{ identity: 0, endpoint: 0, rule: MasqueradeRule.MASQ_POD, expires: (now + 100_000) >>> 0 },
      ...{ created: now, state: FlowState.FLOW_XSOURCE },
    },
  );
  const log = silentLog();
  const table = new FlowTable({ datapath, max: size, log });
  try {
    await table.sweep();
    assert.equal([...flows.entries()].length, 1, "whether its address is lost was not asked");
    const real = datapath.sweep;
    datapath.sweep = () => {
      datapath.sweep = real;
      return Promise.reject(new Error("no memory"));
    };
    await table.sweep(true);
    assert.deepEqual(table.problems(), ["the flow table cannot be swept: no memory"]);
    assert.equal([...flows.entries()].length, 1);
    await waitFor("the next sweep", () => table.problems().length === 0);
    assert.deepEqual([...flows.entries()], []);
  } finally {
    table.close();
    flows.close();
  }
});
