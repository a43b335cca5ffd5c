// SPDX-License-Identifier: Apache-2.0
// Puts names into flows: pods and nodes behind addresses, devices behind indexes, the input line behind a rule.
import type { Address } from "../base/addr.ts";
import { MasqueradeRule } from "../maps/gen/verdict.ts";
import type { Flow, FlowEnd } from "./decode.ts";

/** What the agent knows at the moment; each function gives "" for what it does not know. */
export interface Names {
  readonly ofAddress: (address: Address) => string;
  readonly ofDevice: (ifindex: number) => string;
  readonly ofSource: (index: number) => string;
}

const end = (of: FlowEnd, names: Names): FlowEnd => ({ ...of, name: names.ofAddress(of.address) });

/** The flow with names. `ruleArg` is the event's: an index of the source table for the rules that stand on a range. */
export function enrichFlow(flow: Flow, ruleArg: number, names: Names): Flow {
  const onRange =
    flow.rule === MasqueradeRule.MASQ_NATIVE_CIDR || flow.rule === MasqueradeRule.MASQ_NONMASQ_CIDR;
  return {
    ...flow,
    device: names.ofDevice(flow.ifindex),
    source: end(flow.source, names),
    destination: end(flow.destination, names),
    ruleSource: onRange ? names.ofSource(ruleArg) : "",
  };
}
