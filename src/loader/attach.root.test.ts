// SPDX-License-Identifier: Apache-2.0
// Swapping programs under traffic: every program here drops what the device sends, so one packet on the other side
// means that there was a moment without a program.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { after, test } from "node:test";
import { sleep, waitFor } from "../base/async.ts";
import { parsePrefix } from "../base/prefix.ts";
import { ProgType, progLoad } from "../kernel/bpf.ts";
import { hasTcx } from "../kernel/features.ts";
import { mountBpffs, unmount } from "../kernel/mount.ts";
import { addAddress } from "../kernel/netlink/address.ts";
import { addVeth, getLink, setLink } from "../kernel/netlink/link.ts";
import { setNeighbour } from "../kernel/netlink/neighbour.ts";
import { addRoute } from "../kernel/netlink/route.ts";
import { openRtNetlink } from "../kernel/netlink/socket.ts";
import { createNetns, removeNetns, withNetns } from "../kernel/netns.ts";
import { makePinFolders } from "../maps/pins.ts";
import { Attacher } from "./attach.ts";

const SWAPS = 300;
const TC_ACT_UNSPEC = -1;
const TC_ACT_SHOT = 2;

const name = `hlt-${randomBytes(3).toString("hex")}-swap`;
const netns = createNetns(name);
const bpffs = mkdtempSync(`${tmpdir()}/hlt-bpf-`);
mountBpffs(bpffs);
makePinFolders(bpffs);
const nl = openRtNetlink(netns);
nl.apply(addVeth({ name: "hlt0", up: true }, { name: "hlt1" }), setLink("hlt1", { up: true }));
const device = getLink(nl, "hlt0").index;
nl.apply(
  addAddress({ device, address: "192.0.2.1" }),
  addRoute({ destination: parsePrefix("192.0.2.2/32"), device }),
  setNeighbour({ device, address: "192.0.2.2", mac: getLink(nl, "hlt1").mac ?? "" }),
);

/** r0 = verdict; exit. */
function program(verdict: number): number {
  const instructions = new Uint8Array(16);
  instructions[0] = 0xb7;
  new DataView(instructions.buffer).setInt32(4, verdict, true);
  instructions[8] = 0x95;
  return progLoad({ type: ProgType.schedCls, instructions });
}

const pass = program(TC_ACT_UNSPEC);
const drops = [program(TC_ACT_SHOT), program(TC_ACT_SHOT)] as const;

/** Sends datagrams to the far side without end. */
const sender = withNetns(netns, () =>
  spawn(process.execPath, [
    "-e",
    `const s = require("node:dgram").createSocket("udp4");
     const next = () => s.send("x", 9, "192.0.2.2", () => setImmediate(next));
     for (let i = 0; i < 8; i++) next();`,
  ]),
);

after(() => {
  sender.kill();
  for (const fd of [pass, ...drops]) closeSync(fd);
  nl.close();
  netns.close();
  removeNetns(name);
  unmount(bpffs, { lazy: true });
  rmSync(bpffs, { recursive: true });
});

/** Packets that the far side has received. */
function received(): number {
  const table = withNetns(netns, () => readFileSync("/proc/thread-self/net/dev", "latin1"));
  return Number(/^\s*hlt1:\s*\d+\s+(\d+)/m.exec(table)?.[1]);
}

async function untilTraffic(): Promise<void> {
  const before = received();
  await waitFor("packets on the far side", () => received() > before + 100);
}

/** Until packets that had passed before have arrived. */
async function untilSilence(): Promise<void> {
  for (let last = -1; last !== received(); await sleep(300)) last = received();
}

const modes = [
  ["pods, cls_bpf", "attachPod", "tc", false],
  [
    "native devices, TCX links",
    "attachDevice",
    "tcx",
    hasTcx() ? false : "the kernel has no TCX (it came with 6.6)",
  ],
  ["native devices, cls_bpf", "attachDevice", "tc", false],
] as const;

for (const [title, attach, mode, skip] of modes) {
  test(`${title}: no packet slips through ${SWAPS} swaps`, { skip, timeout: 120_000 }, async () => {
    using attacher = new Attacher({ bpfRoot: bpffs, netns, mode });
    attacher[attach](device, () => pass);
    await untilTraffic();
    attacher[attach](device, () => drops[0]);
    await untilSilence();
    const before = received();
    for (let i = 1; i <= SWAPS; i++) {
      attacher[attach](device, () => drops[i % 2] as number);
      // Lets the sender run on the other processor or on this one.
      if (i % 10 === 0) await sleep(5);
    }
    assert.equal(received(), before);
    attacher[attach](device, () => pass);
    await untilTraffic();
    attacher.detachPod(device);
    attacher.detachDevice(device);
    assert.deepEqual(attacher.attachments(device), []);
  });
}
