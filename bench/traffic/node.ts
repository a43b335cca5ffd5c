// SPDX-License-Identifier: Apache-2.0
// Hookline on the node of the traffic benchmark: the object as the loader attaches it, everything on, with the agent's own
// event reader on its timer and the sweep at the agent's intervals.
import { join } from "node:path";
import { EventReader } from "../../src/agent/event-reader.ts";
import { sweepIntervalMs } from "../../src/agent/sweep-interval.ts";
import { silentLog } from "../../src/base/log.ts";
import { parsePrefix } from "../../src/base/prefix.ts";
import { mountBpffs } from "../../src/kernel/mount.ts";
import { getLink } from "../../src/kernel/netlink/link.ts";
import { openRtNetlink } from "../../src/kernel/netlink/socket.ts";
import { type Datapath, openDatapath } from "../../src/loader/datapath.ts";
import { MasqueradeRule } from "../../src/maps/gen/verdict.ts";
import { FanOut } from "../../src/observe/fan-out.ts";
import { openRing } from "../../src/observe/ring.ts";
import { ALL_ON, OBJECT } from "../../test/support/datapath.ts";
import { CLUSTER_CIDR, MAC, NODE, POD } from "./addresses.ts";

/** Records of the flow table: more than a run opens, so that the table's size is not what is measured. */
export const TABLE_SIZE = 262_144;

const nameless = { ofAddress: () => "", ofDevice: () => "", ofSource: () => "" };

export class HooklineNode {
  readonly #datapath: Datapath;
  readonly #reader: EventReader;
  #sweep: NodeJS.Timeout | undefined;

  /** `folder`: a bpffs is mounted below it, and goes with it. */
  constructor(netns: string, folder: string) {
    const bpfRoot = join(folder, "bpf");
    mountBpffs(bpfRoot);
    this.#datapath = openDatapath({
      objectPath: OBJECT,
      bpfRoot,
      netns,
      config: ALL_ON,
      sizes: { flows: TABLE_SIZE, replies: TABLE_SIZE },
    });
    this.#describe(netns);
    this.#reader = new EventReader({
      ring: openRing(this.#datapath.map("events")),
      lost: this.#datapath.table("events_lost"),
      flows: new FanOut(),
      names: nameless,
      log: silentLog(),
    });
    this.#sweepIn(0);
  }

  #describe(netns: string): void {
    using netlink = openRtNetlink(netns);
    const pod = getLink(netlink, "hlpod").index;
    const eth0 = getLink(netlink, "eth0").index;
    const endpoint = {
      addr4: POD[4],
      addr6: POD[6],
      ifindex: pod,
      identity: 4242,
      id: 101,
      flags: 0,
      mac: MAC.pod,
      hostMac: MAC.host,
    };
    using endpoints = this.#datapath.table("endpoints");
    using addresses = this.#datapath.table("endpoint_addrs");
    using devices = this.#datapath.table("devices");
    using excluded = this.#datapath.table("nonmasq_cidrs");
    endpoints.set(pod, endpoint);
    devices.set(eth0, { addr4: NODE[4], addr6: NODE[6], mtu: 1500, flags: 0 });
    for (const family of [4, 6] as const) {
      addresses.set(POD[family], endpoint);
      const cluster = parsePrefix(CLUSTER_CIDR[family]);
      excluded.set(cluster, { rule: MasqueradeRule.MASQ_NATIVE_CIDR, source: 0 });
    }
    this.#datapath.attachPod(pod);
    this.#datapath.attachDevice(eth0);
  }

  #sweepIn(ms: number): void {
    this.#sweep = setTimeout(async () => {
      const { visited, removed } = await this.#datapath.sweep();
      this.#sweepIn(sweepIntervalMs(Number(visited - removed), TABLE_SIZE));
    }, ms);
  }

  close(): void {
    clearTimeout(this.#sweep);
    this.#reader.close();
    this.#datapath.close();
  }
}
