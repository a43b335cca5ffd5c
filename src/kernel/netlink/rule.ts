// SPDX-License-Identifier: Apache-2.0
// Routing rules (ip-rule(8)), as far as they tell which packets another table than the main one is asked for. Layouts:
// struct fib_rule_hdr and FRA_* in include/uapi/linux/fib_rules.h.
import type { Family } from "../../base/addr.ts";
import { type Message, NLM_F, Request } from "./codec.ts";
import type { RtNetlink } from "./socket.ts";

export const RTM_RULE = { new: 32, delete: 33, get: 34 } as const;

const FRA = { inDevice: 3, priority: 6, sourcePorts: 23 } as const;
const RULE_BYTES = 12;

export interface RoutingRule {
  readonly family: Family;
  /** The lowest is asked first. */
  readonly priority: number;
  /** It asks for the packet's source address. */
  readonly bySource: boolean;
  /** It asks for the device that the packet came in by: its name. */
  readonly inDevice: string | undefined;
  /** It asks for the packet's source port. */
  readonly bySourcePort: boolean;
}

/** A rule as a message of type RTM_NEWRULE or RTM_DELRULE tells it; undefined for other families. */
export function decodeRule(message: Message): RoutingRule | undefined {
  const family = message.view.getUint8(0);
  if (family !== 2 && family !== 10) return undefined;
  const attributes = message.attributes(RULE_BYTES);
  return {
    family: family === 2 ? 4 : 6,
    priority: attributes.u32(FRA.priority) ?? 0,
    bySource: message.view.getUint8(2) > 0,
    inDevice: attributes.text(FRA.inDevice),
    bySourcePort: attributes.bytes(FRA.sourcePorts) !== undefined,
  };
}

/** The rules of both families, those that the kernel makes included. */
export function listRules(netlink: RtNetlink): RoutingRule[] {
  return [2, 10].flatMap((family) => {
    const request = new Request({ op: "rule.list", object: "" }, RTM_RULE.get, NLM_F.dump);
    request.body(RULE_BYTES, [[0, 1, family]]);
    return netlink.list(request, decodeRule);
  });
}
