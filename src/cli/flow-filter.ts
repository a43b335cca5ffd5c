// SPDX-License-Identifier: Apache-2.0
// Which records of the flow table are asked for: the options that `bpf flow` and `bpf nat` share, under the names that
// hubble observe gives them, and whether a record passes them.
import { type Command, InvalidArgumentError, Option } from "commander";
import type { EndpointReport } from "../agent/status.ts";
import { type Address, familyOf } from "../base/addr.ts";
import { type Prefix, prefixContains } from "../base/prefix.ts";
import { FlowState } from "../maps/gen/verdict.ts";
import { PROTOCOL_NUMBERS } from "../observe/protocol.ts";
import { numberArgument, portArgument, prefixArgument } from "./arguments.ts";
import { type FamilyFilter, isFamilyWanted, withFamilies } from "./family.ts";
import { faults } from "./faults.ts";
import { type FlowRecord, type FlowStateName, stateText } from "./flows.ts";

/** What is asked for; absent: everything. */
export interface FlowFilter extends FamilyFilter {
  readonly ip?: Prefix;
  readonly fromIp?: Prefix;
  readonly toIp?: Prefix;
  readonly snatIp?: Prefix;
  readonly port?: number;
  readonly fromPort?: number;
  readonly toPort?: number;
  readonly protocol?: number;
  readonly pod?: string;
  readonly fromPod?: string;
  readonly toPod?: string;
  readonly endpoint?: number;
  readonly state?: FlowStateName;
  readonly trafficDirection?: "egress" | "ingress";
  readonly rule?: number;
}

function protocolArgument(text: string): number {
  const known = PROTOCOL_NUMBERS[text.toLowerCase()];
  if (known !== undefined) return known;
  if (/^\d+$/.test(text) && Number(text) < 256) return Number(text);
  throw new InvalidArgumentError(`Not ${Object.keys(PROTOCOL_NUMBERS).join(", ")} or a number.`);
}

const STATES: FlowStateName[] = ["new", "established", "closing", "reset"];

/** Adds the options of FlowFilter. */
export function withFlowFilter(command: Command): Command {
  const prefix = (flags: string, text: string): Option => new Option(flags, text).argParser(prefixArgument);
  const port = (flags: string, text: string): Option => new Option(flags, text).argParser(portArgument);
  const all = command
    .addOption(prefix("--ip <address|cidr>", "only from or to it"))
    .addOption(prefix("--from-ip <address|cidr>", "only opened from it"))
    .addOption(prefix("--to-ip <address|cidr>", "only opened towards it"))
    .addOption(prefix("--snat-ip <address|cidr>", "only translated to it"))
    .addOption(port("--port <n>", "only with this source or destination port"))
    .addOption(port("--from-port <n>", "only with this source port, before or after translation"))
    .addOption(port("--to-port <n>", "only with this destination port"))
    .addOption(
      new Option("--protocol <name>", "only tcp, udp, icmp, icmpv6, gre and so on, or a number").argParser(
        protocolArgument,
      ),
    )
    .option("--pod <[namespace/]name>", "only from or to this pod (asks the agent)")
    .option("--from-pod <[namespace/]name>", "only opened by this pod")
    .option("--to-pod <[namespace/]name>", "only opened towards this pod")
    .addOption(
      new Option("--endpoint <id>", "only of this endpoint").argParser(numberArgument("an id", 65535)),
    )
    .addOption(new Option("--state <name>", "only in this state").choices(STATES))
    .addOption(
      new Option("--traffic-direction <way>", "only opened by pods, or towards them").choices([
        "egress",
        "ingress",
      ]),
    )
    .addOption(
      new Option("--rule <n>", "only decided by this rule").argParser(numberArgument("a rule", 255)),
    );
  return withFamilies(all);
}

/** Endpoints of a pod, `name` or `namespace/name`. @throws Fault NO_SUCH */
export function findPods(pods: readonly EndpointReport[], name: string): EndpointReport[] {
  const found = pods.filter((e) => e.pod !== "" && (e.pod === name || `${e.namespace}/${e.pod}` === name));
  if (found.length === 0) throw faults.NO_SUCH({ what: "pod", name, hint: "see hookline endpoint list" });
  return found;
}

function addressesOf(pods: readonly EndpointReport[], name: string): ReadonlySet<Address> {
  const addresses = findPods(pods, name).flatMap((e) => [e.ipv4, e.ipv6]);
  return new Set(addresses.filter((address) => address !== ""));
}

type Test = (record: FlowRecord) => boolean;

/** Tests of addresses. */
function addressTests(filter: FlowFilter): Test[] {
  const { ip, fromIp, toIp, snatIp, ipv4, ipv6 } = filter;
  const tests: Test[] = [];
  if (ipv4 !== ipv6) tests.push((r) => isFamilyWanted(familyOf(r.saddr), filter));
  if (ip) tests.push((r) => [r.saddr, r.daddr, r.xsaddr, r.xdaddr].some((a) => prefixContains(ip, a)));
  if (fromIp) tests.push((r) => prefixContains(fromIp, r.saddr));
  if (toIp) tests.push((r) => prefixContains(toIp, r.daddr));
  if (snatIp) {
    tests.push((r) => (r.state & FlowState.FLOW_XSOURCE) !== 0 && prefixContains(snatIp, r.xsaddr));
  }
  return tests;
}

/** Tests of ports, protocol, state, direction and rule. */
function fieldTests(filter: FlowFilter): Test[] {
  const { port, fromPort, toPort, protocol, endpoint, state, trafficDirection, rule } = filter;
  const tests: Test[] = [];
  const fromPortIs = (r: FlowRecord, n: number): boolean => r.sport === n || r.xsport === n;
  const toPortIs = (r: FlowRecord, n: number): boolean => r.dport === n || r.xdport === n;
  if (port !== undefined) tests.push((r) => fromPortIs(r, port) || toPortIs(r, port));
  if (fromPort !== undefined) tests.push((r) => fromPortIs(r, fromPort));
  if (toPort !== undefined) tests.push((r) => toPortIs(r, toPort));
  if (protocol !== undefined) tests.push((r) => r.proto === protocol);
  if (endpoint !== undefined) tests.push((r) => r.endpoint === endpoint);
  if (state !== undefined) tests.push((r) => stateText(r.state) === state);
  if (trafficDirection !== undefined) {
    const inbound = trafficDirection === "ingress";
    tests.push((r) => ((r.state & FlowState.FLOW_INBOUND) !== 0) === inbound);
  }
  if (rule !== undefined) tests.push((r) => r.rule === rule);
  return tests;
}

/** Tests of pods, by the addresses that they have now. */
function podTests({ pod, fromPod, toPod }: FlowFilter, pods: readonly EndpointReport[]): Test[] {
  const tests: Test[] = [];
  const add = (
    name: string | undefined,
    test: (own: ReadonlySet<Address>, r: FlowRecord) => boolean,
  ): void => {
    if (name === undefined) return;
    const own = addressesOf(pods, name);
    tests.push((r) => test(own, r));
  };
  add(pod, (own, r) => own.has(r.saddr) || own.has(r.daddr) || own.has(r.xdaddr));
  add(fromPod, (own, r) => own.has(r.saddr));
  add(toPod, (own, r) => own.has(r.daddr) || own.has(r.xdaddr));
  return tests;
}

const FIELDS = [
  "ip",
  "fromIp",
  "toIp",
  "snatIp",
  "port",
  "fromPort",
  "toPort",
  "protocol",
  "pod",
  "fromPod",
  "toPod",
  "endpoint",
  "state",
  "trafficDirection",
  "rule",
  "ipv4",
  "ipv6",
] as const satisfies readonly (keyof FlowFilter)[];

/** Whether anything is asked for. */
export function isFiltered(filter: FlowFilter): boolean {
  return FIELDS.some((field) => filter[field] !== undefined);
}

/** Whether the filter names pods, for which the agent must be asked. */
export function namesPods({ pod, fromPod, toPod }: FlowFilter): boolean {
  return [pod, fromPod, toPod].some((name) => name !== undefined);
}

/**
 * Whether a record passes all that is asked for. `pods`: the agent's endpoints, if pods are named.
 * @throws Fault NO_SUCH if a pod that is named is not there
 */
export function flowTest(filter: FlowFilter, pods: readonly EndpointReport[]): Test {
  const tests = [...addressTests(filter), ...fieldTests(filter), ...podTests(filter, pods)];
  return (record) => tests.every((test) => test(record));
}
