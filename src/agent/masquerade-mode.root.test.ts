// SPDX-License-Identifier: Apache-2.0
// When the flow table is called complete after a change from iptables to BPF: once netfilter's connections have been read and
// written, not before, also if another update comes meanwhile.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { createLog } from "../base/log.ts";
import { resolveConfig } from "./config.ts";
import { ModeSwitch } from "./masquerade-mode.ts";
import type { NetfilterInputs } from "./netfilter-spec.ts";
import { StateFiles } from "./state-files.ts";

const dir = mkdtempSync(join(tmpdir(), "hl-mode-"));
after(() => rmSync(dir, { recursive: true }));

test("not before the last of netfilter's connections is written", async () => {
  const { config } = resolveConfig([]);
  assert.ok(config);
  const inputs = { config, pods: [] } as unknown as NetfilterInputs;
  const files = new StateFiles(join(dir, "run"), join(dir, "state"));
  files.saveMasqueradeMode("iptables");
  const writes: (() => void)[] = [];
  let completed = 0;
  const modes = new ModeSwitch({
    files,
    adopt: () => new Promise((resolve) => writes.push(() => resolve(0))),
    complete: () => {
      completed++;
    },
    log: createLog("test", "silent"),
    onChange: () => undefined,
    programFolders: [],
  });
  try {
    const prepared = modes.prepare(inputs);
    writes[0]?.();
    assert.equal(await prepared, "bpf");
    const settled = [modes.settle("bpf")];
    assert.equal(await modes.prepare(inputs), "bpf");
    settled.push(modes.settle("bpf"));
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual([writes.length, completed], [2, 0]);
    writes[1]?.();
    await Promise.all(settled);
    assert.equal(completed, 2);
    await modes.prepare(inputs);
    await modes.settle("bpf");
    assert.deepEqual([writes.length, completed], [2, 3]);
  } finally {
    modes.close();
  }
});
