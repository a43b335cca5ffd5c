// SPDX-License-Identifier: Apache-2.0
// The verifier of this kernel takes every program, under every switch: all on, all off, each alone on, each alone off. A
// refusal fails with the program, the verifier's last words and the end of its log.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { after, test } from "node:test";
import { Fault } from "../../src/base/fault.ts";
import { missingFeatures, probe } from "../../src/kernel/features.ts";
import { mountBpffs, unmount } from "../../src/kernel/mount.ts";
import { openDatapath } from "../../src/loader/datapath.ts";
import { PROGRAMS } from "../../src/loader/load.ts";
import type { NodeConfig } from "../../src/maps/gen/config.ts";
import { ALL_OFF, ALL_ON, OBJECT } from "../support/datapath.ts";

const LOG_LINES = 40;
const folder = mkdtempSync(`${tmpdir()}/hlt-${randomBytes(3).toString("hex")}-load-`);
const bpffs = `${folder}/bpf`;
mountBpffs(bpffs);

after(() => {
  unmount(bpffs, { lazy: true });
  rmSync(folder, { recursive: true });
});

const SWITCHES = [
  "enableIpv4",
  "enableIpv6",
  "masqueradeIpv4",
  "masqueradeIpv6",
  "masqueradeRemoteNodes",
  "masqueradeToRouteSource",
  "hostRouting",
  "tunnel",
] as const satisfies (keyof NodeConfig)[];

const everything = Object.fromEntries(SWITCHES.map((name) => [name, 1]));
const EVERY_ON: NodeConfig = { ...ALL_ON, ...everything };
const NOTHING: NodeConfig = { ...ALL_OFF, portMin: 32768, portMax: 60999 };

const rows: [what: string, config: NodeConfig][] = [
  ["the usual", ALL_ON],
  ["everything on", EVERY_ON],
  ["everything off", NOTHING],
  ...SWITCHES.map((name): [string, NodeConfig] => [`everything but ${name}`, { ...EVERY_ON, [name]: 0 }]),
  ...SWITCHES.map((name): [string, NodeConfig] => [`only ${name}`, { ...NOTHING, [name]: 1 }]),
  ["events of drops only", { ...EVERY_ON, events: 1 }],
  ["no events", { ...EVERY_ON, events: 0 }],
];

/** The fault, and the end of the verifier's log. */
function explain(thrown: unknown): string {
  const fault = Fault.from(thrown);
  if (fault.code !== "VERIFIER") return fault.message;
  const log = readFileSync(String(fault.context.file), "utf8").trimEnd().split("\n");
  return [fault.message, ...log.slice(-LOG_LINES)].join("\n");
}

test("the kernel has what the data plane requires", () => {
  assert.deepEqual(missingFeatures(probe()), []);
});

for (const [index, [what, config]] of rows.entries()) {
  test(`loads with ${what}`, () => {
    const bpfRoot = `${bpffs}/${index}`;
    const sizes = { flows: 64, replies: 64, events: 4096 };
    try {
      using datapath = openDatapath({ objectPath: OBJECT, bpfRoot, config, sizes, logFolder: folder });
      assert.equal(datapath.programs().length, PROGRAMS.length);
    } catch (thrown) {
      assert.fail(explain(thrown));
    }
  });
}
