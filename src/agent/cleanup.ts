// SPDX-License-Identifier: Apache-2.0
// Takes away what an agent that has ended leaves in force on its host: rules and sets of iptables mode, programs on devices,
// pins and with them the maps, routes to other nodes' pods. Pods' devices and the state folder stay.
import { join } from "node:path";
import type { Fault } from "../base/fault.ts";
import { Netfilter } from "../engine/masquerade/netfilter.ts";
import { diffRoutes } from "../engine/route/plan.ts";
import { applyRoutes, readNetworkFacts } from "../engine/route/read.ts";
import { tryLock } from "../kernel/file-lock.ts";
import { listLinks } from "../kernel/netlink/link.ts";
import { openRtNetlink } from "../kernel/netlink/socket.ts";
import { Attacher } from "../loader/attach.ts";
import { listPins, removePins } from "../maps/pins.ts";
import { faults } from "./faults.ts";

/** What was there and is gone. */
export interface CleanedUp {
  readonly devices: readonly string[];
  readonly pins: number;
  readonly routes: number;
  /** Whether all rules and sets of ours are gone, and if not why. */
  readonly netfilter: Fault | undefined;
}

/** Programs off every device of the namespace; gives the devices' names. */
function detachAll(bpfRoot: string): string[] {
  using netlink = openRtNetlink();
  using attacher = new Attacher({ bpfRoot });
  const found = listLinks(netlink).filter(({ index }) => attacher.attachments(index).length > 0);
  for (const { index } of found) {
    attacher.detachPod(index);
    attacher.detachDevice(index);
  }
  for (const index of attacher.linkedDevices()) attacher.detachDevice(index);
  return found.map(({ name }) => name);
}

function removeRoutes(): number {
  using netlink = openRtNetlink();
  const changes = diffRoutes(new Map(), readNetworkFacts(netlink).routes);
  const refused = applyRoutes(netlink, changes);
  if (refused[0] !== undefined) throw refused[0];
  return changes.remove.length;
}

/**
 * Cleans up the namespace that the process is in. Safe to run twice.
 * @throws Fault AGENT_RUNNING, and those of the kernel
 */
export async function cleanUp(runDir: string, bpfRoot: string): Promise<CleanedUp> {
  using lock = tryLock(join(runDir, "agent.lock"));
  if (lock === undefined) throw faults.AGENT_RUNNING({ runDir });
  const netfilter = new Netfilter();
  await netfilter.remove();
  netfilter.close();
  const devices = detachAll(bpfRoot);
  const pins = listPins(bpfRoot, "maps").length + listPins(bpfRoot, "links").length;
  removePins(bpfRoot);
  return { devices, pins, routes: removeRoutes(), netfilter: netfilter.fault };
}
