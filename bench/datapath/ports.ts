// SPDX-License-Identifier: Apache-2.0
// How often a new flow still finds a port when most of those towards one destination are held by live flows, and how long the
// search takes. Ports are filled by writing records; each success is undone before the next attempt. The first attempts at an
// occupancy find out what the later ones know (map `crowded`): they are the most.
import { ALL_ON } from "../../test/support/datapath.ts";
import { hold, repliesTo } from "../../test/support/held-ports.ts";
import { INTERNET, POD_B } from "../../test/support/packet-node.ts";
import { randomNumbers, shuffledPorts } from "../../test/support/random.ts";
import { fromPodB, Rig, SERVICE_PORT, TCP } from "../../test/support/transports.ts";

const PORTS = ALL_ON.portMax - ALL_ON.portMin + 1;
const OCCUPIED = [0, 0.5, 0.9, 0.95, 0.99, 0.999, (PORTS - 1) / PORTS, 1] as const;

/** Figures at one occupancy. `ns`: time of the whole hook for the packet that opens the flow. */
export interface PortSearch {
  readonly held: number;
  readonly ports: number;
  readonly attempts: number;
  readonly found: number;
  readonly ns: { readonly median: number; readonly p99: number; readonly most: number };
}

/** Measures all occupancies, from empty to no free port. */
export async function fillPorts(quick: boolean): Promise<PortSearch[]> {
  const rig = new Rig();
  try {
    const { datapath, devices, restore } = rig.load(ALL_ON, 2 * PORTS);
    restore();
    const random = randomNumbers(1);
    const order = shuffledPorts(ALL_ON.portMin, ALL_ON.portMax, random);
    const attempts = quick ? 100 : 2000;
    let held = 0;
    const attempt = (): { ns: number; found: boolean } => {
      const sport = ALL_ON.portMin + Math.floor(random() * PORTS);
      const on = fromPodB(4, POD_B, INTERNET);
      const packet = on.tcp({ sport, dport: SERVICE_PORT, flags: "S" }).bytes();
      const { verdict, durationNs } = datapath.run("from_pod", packet, { ifindex: devices.hlb });
      const key = { saddr: POD_B[4], daddr: INTERNET[4], sport, dport: SERVICE_PORT, proto: 6 };
      const made = datapath.flows.get(key);
      if (made) {
        datapath.flows.delete(key);
        datapath.replies.delete(repliesTo(4, TCP, made.xsport));
      }
      datapath.events();
      return { ns: durationNs, found: verdict === "redirect" };
    };
    return OCCUPIED.map((share) => {
      for (const upTo = Math.round(share * PORTS); held < upTo; held++)
        hold({ datapath, family: 4, transport: TCP }, order[held] as number);
      const tries = Array.from({ length: attempts }, attempt);
      const times = tries.map(({ ns }) => ns).sort((a, b) => a - b);
      const found = tries.filter((one) => one.found).length;
      const at = (part: number): number => times[Math.floor(part * (times.length - 1))] ?? Number.NaN;
      return { held, ports: PORTS, attempts, found, ns: { median: at(0.5), p99: at(0.99), most: at(1) } };
    });
  } finally {
    await rig.close();
  }
}
