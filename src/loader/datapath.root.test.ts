// SPDX-License-Identifier: Apache-2.0
// The built object against the kernel: loading, taking pins over, attaching, swapping, sweeping.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { closeSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { after, test } from "node:test";
import type { Fault } from "../base/fault.ts";
import { linkDetach, MapType, mapCreate, objPin, ProgType, progLoad } from "../kernel/bpf.ts";
import { hasTcx } from "../kernel/features.ts";
import { mountBpffs, unmount } from "../kernel/mount.ts";
import { addVeth, deleteLink, getLink } from "../kernel/netlink/link.ts";
import { openRtNetlink } from "../kernel/netlink/socket.ts";
import { addClsact, deleteClsact, deleteFilter, listFilters, replaceFilter } from "../kernel/netlink/tc.ts";
import { createNetns, removeNetns } from "../kernel/netns.ts";
import type { NodeConfig } from "../maps/gen/config.ts";
import { MAPS } from "../maps/gen/maps.ts";
import { linkPin, listPins, mapPin, openPin, removePins } from "../maps/pins.ts";
import { openInner, openPinned } from "../maps/table.ts";
import type { DeviceMode } from "./attach.ts";
import { type Datapath, type DatapathOptions, openDatapath } from "./datapath.ts";
import { type MapSizes, PROGRAMS } from "./load.ts";

const OBJECT = new URL("../../build/datapath.bpf.o", import.meta.url).pathname;

const CONFIG: NodeConfig = {
  enableIpv4: 1,
  enableIpv6: 1,
  masqueradeIpv4: 1,
  masqueradeIpv6: 1,
  masqueradeRemoteNodes: 0,
  masqueradeToRouteSource: 0,
  hostRouting: 1,
  trackFragmentsIpv4: 1,
  trackFragmentsIpv6: 1,
  netfilter: 0,
  tunnel: 0,
  events: 2,
  portMin: 1024,
  portMax: 65535,
  tunnelPort: 0,
  timeoutTcpSyn: 3600,
  timeoutTcp: 480000,
  timeoutTcpFin: 600,
  timeoutAny: 3600,
};

const NO_TCX = hasTcx() ? false : "the kernel has no TCX (it came with 6.6)";

const name = `hlt-${randomBytes(3).toString("hex")}-load`;
const netns = createNetns(name);
const nl = openRtNetlink(netns);
const bpffs = mkdtempSync(`${tmpdir()}/hlt-bpf-`);
mountBpffs(bpffs);

after(() => {
  nl.close();
  netns.close();
  removeNetns(name);
  unmount(bpffs, { lazy: true });
  rmSync(bpffs, { recursive: true });
});

let roots = 0;

function options(change: Partial<DatapathOptions> = {}): DatapathOptions {
  return {
    objectPath: OBJECT,
    bpfRoot: `${bpffs}/node${++roots}`,
    config: CONFIG,
    sizes: { flows: 1024, replies: 1024, events: 65536, ipcache: 100 },
    netns,
    ...change,
  };
}

/** A veth pair; gives the index of the near end. */
function device(): number {
  nl.apply(addVeth({ name: "hlt0", up: true }, { name: "hlt1" }));
  return getLink(nl, "hlt0").index;
}

function idsOf(datapath: Datapath): Map<string, number> {
  return new Map(datapath.programs().map((program) => [program.name, program.id]));
}

test("a first load makes, sizes and pins every map", () => {
  const o = options();
  using datapath = openDatapath(o);
  assert.deepEqual(readdirSync(`${o.bpfRoot}/maps`).sort(), Object.keys(MAPS).sort());
  const sizes = new Map(datapath.maps.map((map) => [map.name, map.maxEntries]));
  assert.equal(sizes.get("ipcache"), 100);
  assert.equal(sizes.get("events"), 65536);
  assert.ok(datapath.maps.every((map) => !map.adopted));
  assert.deepEqual([...idsOf(datapath).keys()].sort(), [...PROGRAMS].sort());
  for (const outer of ["flows", "replies"] as const) {
    const tables = openInner(o.bpfRoot, outer);
    assert.deepEqual(
      tables.map((table) => table.maxEntries),
      [1024],
    );
    for (const table of tables) table.close();
  }
  removePins(o.bpfRoot);
});

test("a second load takes the maps over with their entries, and their sizes", () => {
  const o = options();
  const entry = { rule: 7, source: 3 };
  const prefix = { address: "10.0.0.0", length: 8 };
  {
    using first = openDatapath(o);
    using table = first.table("nonmasq_cidrs");
    table.set(prefix, entry);
  }
  const flowsBefore = openInner(o.bpfRoot, "flows")[0];
  using second = openDatapath({ ...o, sizes: { ipcache: 5, flows: 64 } });
  assert.ok(second.maps.every((map) => map.adopted));
  using table = openPinned(o.bpfRoot, "nonmasq_cidrs");
  assert.deepEqual([...table.entries()], [[prefix, entry]]);
  using ipcache = openPinned(o.bpfRoot, "ipcache");
  assert.equal(ipcache.maxEntries, 100);
  const flowsAfter = openInner(o.bpfRoot, "flows")[0];
  assert.equal(flowsAfter?.map.info.id, flowsBefore?.map.info.id);
  flowsBefore?.close();
  flowsAfter?.close();
  removePins(o.bpfRoot);
});

test("a cache is made anew when its size changes, and only then", () => {
  const o = options();
  const id = (sizes: MapSizes): [number, number, boolean] => {
    using datapath = openDatapath({ ...o, sizes });
    using table = datapath.table("frag_datagrams");
    const adopted = datapath.maps.some((map) => map.name === "frag_datagrams" && map.adopted);
    return [table.map.info.id, table.maxEntries, adopted];
  };
  const [first, size] = id({ frag_datagrams: 512 });
  assert.equal(size, 512);
  assert.deepEqual(id({ frag_datagrams: 512 }), [first, 512, true]);
  assert.deepEqual(id({}), [first, 512, true]);
  const [second, larger, adopted] = id({ frag_datagrams: 1024 });
  assert.notEqual(second, first);
  assert.deepEqual([larger, adopted], [1024, false]);
  using pinned = openPinned(o.bpfRoot, "frag_datagrams");
  assert.equal(pinned.map.info.id, second);
  removePins(o.bpfRoot);
});

test("a pin that does not fit is refused with the field that differs, and nothing is lost", () => {
  const o = options();
  openDatapath(o).close();
  const path = mapPin(o.bpfRoot, "endpoints");
  rmSync(path);
  const foreign = mapCreate({
    name: "endpoints",
    type: MapType.hash,
    keySize: 4,
    valueSize: 8,
    maxEntries: 4,
  });
  objPin(foreign, path);
  closeSync(foreign);
  assert.throws(
    () => openDatapath(o),
    (fault: Fault) => {
      assert.equal(fault.code, "PIN_MISMATCH");
      assert.match(fault.detail, new RegExp(`value size 8, wanted ${MAPS.endpoints.valueSize}`));
      assert.match(fault.detail, new RegExp(`rm ${path}`));
      return true;
    },
  );
  assert.equal(listPins(o.bpfRoot, "maps").length, Object.keys(MAPS).length);
  removePins(o.bpfRoot);
});

test("a folder outside a bpffs, a missing object and rubbish are refused", () => {
  assert.throws(() => openDatapath(options({ bpfRoot: `${tmpdir()}/hlt-none` })), { code: "NOT_BPFFS" });
  assert.throws(() => openDatapath(options({ objectPath: "/none.o" })), { code: "OBJECT_MISSING" });
  const rubbish = `${mkdtempSync(`${tmpdir()}/hlt-object-`)}/rubbish.o`;
  writeFileSync(rubbish, "no ELF at all");
  assert.throws(() => openDatapath(options({ objectPath: rubbish })), { code: "KERNEL_REFUSED" });
  rmSync(rubbish.replace(/\/rubbish.o$/, ""), { recursive: true });
});

/** The built object with the first instruction of from_pod made one that the verifier refuses: r0 = r9. */
function brokenObject(folder: string): string {
  const bytes = readFileSync(OBJECT);
  const sections = Number(bytes.readBigUInt64LE(0x28));
  const section = (i: number) => sections + i * bytes.readUInt16LE(0x3a);
  const names = Number(bytes.readBigUInt64LE(section(bytes.readUInt16LE(0x3e)) + 0x18));
  for (let i = 0; i < bytes.readUInt16LE(0x3c); i++) {
    const at = names + bytes.readUInt32LE(section(i));
    if (bytes.toString("latin1", at, at + 3) !== "tc\0") continue;
    const code = Number(bytes.readBigUInt64LE(section(i) + 0x18));
    bytes.set([0xbf, 0x90, 0, 0, 0, 0, 0, 0], code);
    writeFileSync(`${folder}/broken.o`, bytes);
    return `${folder}/broken.o`;
  }
  throw new Error("the object has no section tc");
}

test("a program that the verifier refuses is named with the reason and a log file", () => {
  const folder = mkdtempSync(`${tmpdir()}/hlt-object-`);
  try {
    const o = options({ objectPath: brokenObject(folder), logFolder: folder });
    assert.throws(
      () => openDatapath(o),
      (fault: Fault) => {
        assert.equal(fault.code, "VERIFIER", fault.message);
        assert.match(fault.detail, /refuses program (from|to)_(pod|net): .*R9 !read_ok/);
        assert.match(readFileSync(String(fault.context.file), "utf8"), /R9 !read_ok/);
        return true;
      },
    );
    removePins(o.bpfRoot);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("pods: filters are put, swapped in place beside foreign ones, and taken off", () => {
  const o = options();
  const ifindex = device();
  const first = openDatapath(o);
  nl.apply(addClsact(ifindex));
  const place = { device: ifindex, direction: "ingress", priority: 1, handle: 9 } as const;
  const foreign = foreignProgram();
  nl.apply(replaceFilter(place, foreign, "foreign"));
  closeSync(foreign);
  first.attachPod(ifindex);
  const ids = idsOf(first);
  assert.deepEqual(
    first.attachments(ifindex).map((a) => [a.hook, a.mode, a.progId]),
    [
      ["from_pod", "tc", ids.get("from_pod")],
      ["to_pod", "tc", ids.get("to_pod")],
    ],
  );
  first.close();
  using second = openDatapath(o);
  second.attachPod(ifindex);
  const swapped = second.attachments(ifindex);
  assert.deepEqual(
    swapped.map((a) => a.progId),
    [idsOf(second).get("from_pod"), idsOf(second).get("to_pod")],
  );
  second.detachPod(ifindex);
  assert.deepEqual(second.attachments(ifindex), []);
  assert.deepEqual(
    listFilters(nl, ifindex, "ingress").map((f) => f.name),
    ["foreign"],
  );
  nl.apply(deleteLink(ifindex));
  second.detachPod(ifindex);
  assert.throws(() => second.attachPod(ifindex), { detail: /^qdisc\.add ENODEV/ });
  removePins(o.bpfRoot);
});

/** A program of somebody else's that lets every packet pass: r0 = TC_ACT_UNSPEC; exit. */
function foreignProgram(): number {
  const instructions = Uint8Array.of(0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x95, 0, 0, 0, 0, 0, 0, 0);
  return progLoad({ type: ProgType.schedCls, instructions });
}

test("native devices: links are pinned, swapped, and made anew when the device is another", {
  skip: NO_TCX,
}, () => {
  const o = options();
  const ifindex = device();
  const first = openDatapath(o);
  first.attachDevice(ifindex);
  assert.deepEqual(
    listPins(o.bpfRoot, "links")
      .map((path) => path.split("/").at(-1))
      .sort(),
    [`from_net_${ifindex}`, `to_net_${ifindex}`],
  );
  first.close();
  using second = openDatapath(o);
  assert.deepEqual(second.linkedDevices(), [ifindex]);
  second.attachDevice(ifindex);
  assert.deepEqual(
    second.attachments(ifindex).map((a) => [a.hook, a.mode, a.progId]),
    [
      ["from_net", "tcx", idsOf(second).get("from_net")],
      ["to_net", "tcx", idsOf(second).get("to_net")],
    ],
  );
  nl.apply(deleteLink(ifindex));
  assert.deepEqual(second.attachments(ifindex), []);
  assert.deepEqual(second.linkedDevices(), [ifindex]);
  second.detachDevice(ifindex);
  assert.deepEqual(listPins(o.bpfRoot, "links"), []);
  removePins(o.bpfRoot);
});

test("native devices without TCX, and moving from the one to the other", { skip: NO_TCX }, () => {
  const o = options({ mode: "tc" });
  const ifindex = device();
  const modes = (datapath: Datapath): DeviceMode[] => datapath.attachments(ifindex).map((a) => a.mode);
  for (const mode of ["tc", "tcx", "tc"] as const) {
    using datapath = openDatapath({ ...o, mode });
    datapath.attachDevice(ifindex);
    assert.deepEqual(modes(datapath), [mode, mode]);
    if (mode === "tc") assert.deepEqual(listPins(o.bpfRoot, "links"), []);
  }
  using last = openDatapath(o);
  last.detachDevice(ifindex);
  assert.deepEqual(modes(last), []);
  nl.apply(deleteLink(ifindex));
  removePins(o.bpfRoot);
});

test("what somebody takes off a device is seen to lack, and put back", () => {
  const o = options();
  const ifindex = device();
  const filter = { device: ifindex, direction: "egress", priority: 1, handle: 0x686b6c } as const;
  const after = (datapath: Datapath, takeOff: () => void): void => {
    takeOff();
    assert.equal(datapath.deviceIsWhole(ifindex), false);
    datapath.attachDevice(ifindex);
    assert.equal(datapath.deviceIsWhole(ifindex), true);
  };
  for (const mode of NO_TCX ? (["tc"] as const) : (["tc", "tcx"] as const)) {
    using datapath = openDatapath({ ...o, mode });
    after(datapath, () => undefined);
    if (mode === "tc") {
      after(datapath, () => nl.apply(deleteFilter(filter)));
      after(datapath, () => nl.apply(deleteClsact(ifindex)));
    } else {
      const fd = openPin(linkPin(o.bpfRoot, "to_net", ifindex)) ?? assert.fail("no link");
      after(datapath, () => linkDetach(fd, "to_net"));
      closeSync(fd);
    }
    datapath.detachDevice(ifindex);
  }
  using pods = openDatapath(o);
  pods.attachPod(ifindex);
  assert.equal(pods.podIsWhole(ifindex), true);
  nl.apply(deleteFilter(filter));
  assert.equal(pods.podIsWhole(ifindex), false);
  nl.apply(deleteLink(ifindex));
  assert.equal(pods.podIsWhole(ifindex), false);
  removePins(o.bpfRoot);
});

/** Whether slot 0 of map `programs` holds the program that `datapath` says is loaded. */
function behindHooks(datapath: Datapath): boolean {
  using programs = datapath.table("programs");
  return programs.get(0) === idsOf(datapath).get("datapath");
}

test("another configuration is another program behind the same hooks, over the same maps", () => {
  const o = options();
  const ifindex = device();
  using datapath = openDatapath(o);
  datapath.attachDevice(ifindex);
  const attached = datapath.attachments(ifindex);
  const maps = datapath.maps.map((map) => map.fd);
  const before = idsOf(datapath).get("datapath");
  assert.ok(behindHooks(datapath));
  datapath.reload({ ...CONFIG, masqueradeIpv4: 0 });
  assert.notEqual(idsOf(datapath).get("datapath"), before);
  assert.ok(behindHooks(datapath));
  assert.deepEqual(datapath.attachments(ifindex), attached);
  assert.deepEqual(
    datapath.maps.map((map) => map.fd),
    maps,
  );
  nl.apply(deleteLink(ifindex));
  datapath.reload(CONFIG);
  removePins(o.bpfRoot);
});

test("a program that is refused leaves the one behind the hooks", () => {
  const folder = mkdtempSync(`${tmpdir()}/hlt-object-`);
  try {
    const o = options();
    using datapath = openDatapath(o);
    assert.throws(() => openDatapath({ ...o, objectPath: brokenObject(folder), logFolder: folder }), {
      code: "VERIFIER",
    });
    assert.ok(behindHooks(datapath));
    removePins(o.bpfRoot);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the sweep runs over the flow table", async () => {
  const o = options();
  using datapath = openDatapath(o);
  const { visited, removed } = await datapath.sweep();
  assert.deepEqual([visited, removed], [0n, 0n]);
  removePins(o.bpfRoot);
});
