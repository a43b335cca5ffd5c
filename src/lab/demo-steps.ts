// SPDX-License-Identifier: Apache-2.0
// The steps of the demonstration. What must hold follows from the lab's plan and configuration, so that they also tell
// the truth in a lab with one node, without IPv6 or with masquerading off.
import { type Address, familyOf } from "../base/addr.ts";
import type { DemoContext, Step } from "./demo-types.ts";
import type { LabPlan } from "./plan.ts";
import type { LabPodStatus } from "./status.ts";
import type { Sighting } from "./web-server.ts";

/** What `hookline bpf flow list -o json` gives, as far as the demonstration reads it. */
interface FlowRow {
  proto: string;
  source: string;
  destination: string;
  translatedSource: string;
  rule: number;
  ruleText: string;
}

function isOn(plan: LabPlan, key: string): boolean {
  return plan.config[key] !== "false";
}

function hostOf(address: Address): string {
  return familyOf(address) === 6 ? `[${address}]` : address;
}

/** `10.244.1.2:4711` or `[fd00::2]:4711`. */
function endpointText(address: Address, port: number): string {
  return `${hostOf(address)}:${port}`;
}

/** The client of all steps: the first pod of the first node; and a pod elsewhere, if there is one. */
function actors({ status }: DemoContext): { client: LabPodStatus; far: LabPodStatus | undefined } {
  const running = status.pods.filter((pod) => pod.phase === "Running" && pod.namespace === "default");
  const [client] = running;
  if (!client) throw new Error("no pod of this lab runs; see hookline lab status");
  const far = running.find((pod) => pod.node !== client.node) ?? running.find((pod) => pod !== client);
  return { client, far };
}

function addressOf(addresses: string[], family: 4 | 6): Address {
  const found = addresses.find((address) => familyOf(address) === family);
  if (found === undefined) throw new Error(`no IPv${family} address`);
  return found;
}

/** One request with curl from the client pod, and who the server saw. */
async function visit(
  context: DemoContext,
  client: LabPodStatus,
  address: Address,
): Promise<{ lines: string[]; seen: Sighting }> {
  const url = `http://${hostOf(address)}/`;
  const text = await context.exec(client.name, ["curl", "-sS", "--max-time", "5", url]);
  const lines = [`$ ${context.command} lab exec ${client.name} -- curl -s ${url}`, text.trimEnd()];
  return { lines, seen: JSON.parse(text) };
}

/** A destination on the internet: the server must see the node, or the pod itself where masquerading is off. */
function internetStep(family: 4 | 6, address: Address): Step {
  return {
    title: `A pod calls a server on the internet over IPv${family}`,
    run: async (context) => {
      const { client } = actors(context);
      const { lines, seen } = await visit(context, client, address);
      const node = context.status.nodes.find((n) => n.name === client.node);
      const own = addressOf(client.addresses, family);
      const masqueraded = isOn(context.plan, `enable-ipv${family}-masquerade`);
      const expected = masqueraded ? addressOf(node?.addresses ?? [], family) : own;
      const who = masqueraded
        ? `${client.node}'s address, not the pod's ${own}`
        : "the pod's own: masquerading is off";
      return seen.peer === expected
        ? { lines, held: true, verdict: `The server saw ${seen.peer}: ${who}.` }
        : {
            lines,
            held: false,
            verdict: `The server saw ${seen.peer}; it should have been ${expected}, ${who}.`,
          };
    },
  };
}

/** Destinations that keep the pod's address. */
function keptStep(title: string, reason: string, targets: (context: DemoContext) => Address[]): Step {
  return {
    title,
    run: async (context) => {
      const { client } = actors(context);
      const lines: string[] = [];
      const wrong: string[] = [];
      const seen: string[] = [];
      for (const address of targets(context)) {
        const answer = await visit(context, client, address);
        const own = addressOf(client.addresses, familyOf(address));
        lines.push(...answer.lines);
        seen.push(answer.seen.peer);
        if (answer.seen.peer !== own) wrong.push(`${address} saw ${answer.seen.peer} instead of ${own}`);
      }
      return wrong.length === 0
        ? {
            lines,
            held: true,
            verdict: `The server saw ${seen.join(" and ")}: the pod's own address, ${reason}.`,
          }
        : { lines, held: false, verdict: `${wrong.join("; ")}.` };
    },
  };
}

const clusterStep: Step = {
  title: "The cluster",
  run: async ({ command, hookline, status }) => {
    const text = await hookline(["lab", "status"]);
    const sick = [
      ...status.nodes.filter((n) => n.agent !== "ok").map((n) => `${n.name}: ${n.text}`),
      ...status.pods.filter((p) => p.phase !== "Running").map((p) => `${p.name}: ${p.phase}`),
    ];
    const lines = [`$ ${command} lab status`, text];
    return sick.length === 0
      ? {
          lines,
          held: true,
          verdict: `${status.nodes.length} nodes and ${status.pods.length} pods, all running: namespaces of this kernel, with real agents.`,
        }
      : { lines, held: false, verdict: sick.join("; ") };
  },
};

const statusStep: Step = {
  title: "What the agent says of its masquerading",
  run: async (context) => {
    const { client } = actors(context);
    const text = await context.hookline(["--node", client.node, "status"]);
    const shown = text
      .split("\n")
      .filter((line) => /^(Masquerading| {2}(Addresses|Exclusions)|Routing|Attach Mode):/.test(line));
    const mode = isOn(context.plan, "enable-ipv4-masquerade") || isOn(context.plan, "enable-ipv6-masquerade");
    const held = shown.some((line) => line.startsWith("Masquerading:") && line.includes("BPF") === mode);
    const lines = [`$ ${context.command} --node ${client.node} status`, ...shown];
    return {
      lines,
      held,
      verdict: held ? "Masquerading is done in BPF." : "The masquerading line is not as configured.",
    };
  },
};

const natStep: Step = {
  title: "The translations behind it, and the rule that decided each flow",
  run: async (context) => {
    const { client } = actors(context);
    const fresh = [];
    for (const address of internetTargets(context.plan))
      fresh.push((await visit(context, client, address)).seen);
    const node = ["--node", client.node];
    const nat = (await context.hookline([...node, "bpf", "nat", "list"])).trimEnd().split("\n");
    const flows: FlowRow[] = JSON.parse(
      await context.hookline([...node, "bpf", "flow", "list", "-o", "json"]),
    );
    const lines = [`$ ${context.command} --node ${client.node} bpf nat list`];
    const missing: string[] = [];
    for (const seen of fresh) {
      // The port that the server saw singles out the flow of the request just made.
      const from = endpointText(seen.peer, seen.peerPort);
      const flow = flows.find(
        (f) =>
          f.translatedSource === from && f.destination === endpointText(seen.local, 80) && f.proto === "TCP",
      );
      const own = nat.filter((line) => flow && line.includes(flow.source) && line.includes(from));
      const translated = isOn(context.plan, `enable-ipv${familyOf(seen.peer)}-masquerade`);
      if (!flow || own.length !== (translated ? 2 : 0)) missing.push(`${from} -> ${seen.local}`);
      else lines.push(...own, `  decided by rule ${flow.rule}: ${flow.ruleText}`);
    }
    const kept = flows.find((f) => f.destination === endpointText(context.plan.outside.exempt[0], 80));
    if (kept) {
      lines.push(
        `$ ${context.command} --node ${client.node} bpf flow list`,
        `${kept.proto} ${kept.source} -> ${kept.destination} keeps its source`,
        `  decided by rule ${kept.rule}: ${kept.ruleText}`,
      );
    }
    return missing.length === 0
      ? {
          lines,
          held: true,
          verdict: `${fresh.length} new requests, each with its record, found by the port that the server saw.`,
        }
      : { lines, held: false, verdict: `no record, or not both directions, for ${missing.join(", ")}` };
  },
};

function internetTargets(plan: LabPlan): Address[] {
  return plan.outside.internet.filter((address) => isOn(plan, `enable-ipv${familyOf(address)}`));
}

/** The steps that make sense in this lab, in order. */
export function demoSteps(context: DemoContext): Step[] {
  const { plan } = context;
  const families = ([4, 6] as const).filter((family) => isOn(plan, `enable-ipv${family}`));
  const { far, client } = actors(context);
  const exempt = plan.outside.exempt.filter((address) => families.includes(familyOf(address)));
  const place = far?.node === client.node ? "on the same node" : "on another node";
  return [
    clusterStep,
    ...families.map((family) => internetStep(family, addressOf(plan.outside.internet, family))),
    keptStep(
      "A destination that is listed in nonMasqueradeCIDRs",
      "because the destination is in nonMasqueradeCIDRs",
      () => exempt,
    ),
    ...(far
      ? [
          keptStep(
            `Pod to pod: ${client.name} calls ${far.name} ${place}`,
            "as always inside the cluster",
            () => far.addresses.filter((address) => families.includes(familyOf(address))),
          ),
        ]
      : []),
    statusStep,
    natStep,
  ];
}
