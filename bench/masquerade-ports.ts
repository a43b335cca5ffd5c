// SPDX-License-Identifier: Apache-2.0
// How often a new flow still finds a port when most of those towards one destination are held by live flows, and how long the
// search takes. Ports are filled by writing records; each success is undone before the next attempt.
import { FlowState, MasqueradeRule } from "../src/maps/gen/verdict.ts";
import { ALL_ON, nowTicks } from "../test/support/datapath.ts";
import { ENDPOINT_A, INTERNET, NODE, POD_A, POD_B } from "../test/support/packet-node.ts";
import { randomNumbers, shuffledPorts } from "../test/support/random.ts";
import { fromPodB, Rig, SERVICE_PORT } from "../test/support/transports.ts";

const PORTS = ALL_ON.portMax - ALL_ON.portMin + 1;
const OCCUPIED = [0, 0.5, 0.9, 0.95, 0.99, 0.999, (PORTS - 1) / PORTS] as const;
const TICKS_OF_LIFE = 1_000_000;

/** Figures at one occupancy. `ns`: time of the whole hook for the packet that opens the flow. */
export interface PortSearch {
  readonly held: number;
  readonly ports: number;
  readonly attempts: number;
  readonly found: number;
  readonly ns: { readonly median: number; readonly p99: number };
}

function hold(datapath: ReturnType<Rig["load"]>["datapath"], port: number): void {
  const now = nowTicks();
  const [daddr, dport, proto] = [INTERNET[4], SERVICE_PORT, 6];
  datapath.flows.set(
    { saddr: POD_A[4], daddr, sport: port, dport, proto },
    {
      xsaddr: NODE[4],
      xdaddr: daddr,
      xsport: port,
      xdport: dport,
      expires: now + TICKS_OF_LIFE,
      created: now,
      endpoint: ENDPOINT_A,
      proxyPort: 0,
      service: 0,
      state: FlowState.FLOW_XSOURCE | FlowState.FLOW_REPLIED,
      rule: MasqueradeRule.MASQ_POD,
      identity: 0,
    },
  );
  datapath.replies.set(
    { saddr: daddr, daddr: NODE[4], sport: dport, dport: port, proto },
    { saddr: POD_A[4], sport: port, service: 0, claim: now - 100 },
  );
}

/** Measures all occupancies, from empty to one free port. */
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
        const { xsport } = made;
        datapath.replies.delete({
          saddr: INTERNET[4],
          daddr: NODE[4],
          sport: SERVICE_PORT,
          dport: xsport,
          proto: 6,
        });
      }
      datapath.events();
      return { ns: durationNs, found: verdict === "redirect" };
    };
    return OCCUPIED.map((share) => {
      for (const upTo = Math.round(share * PORTS); held < upTo; held++) hold(datapath, order[held] as number);
      // With one port free the search walks the whole range.
      const count = share > 0.9995 ? attempts / 10 : attempts;
      const tries = Array.from({ length: count }, attempt);
      const times = tries.map(({ ns }) => ns).sort((a, b) => a - b);
      const found = tries.filter((one) => one.found).length;
      const at = (part: number): number => times[Math.floor(part * (times.length - 1))] ?? Number.NaN;
      return { held, ports: PORTS, attempts: count, found, ns: { median: at(0.5), p99: at(0.99) } };
    });
  } finally {
    await rig.close();
  }
}
