// SPDX-License-Identifier: Apache-2.0
// Node: columns and rules. Status may come with the object, as nodes of a folder of manifests have nobody else to say it.
import { parsePrefix } from "../../base/prefix.ts";
import { type FieldError, invalidValue } from "../faults.ts";
import { at, type KubeObject, listAt, own, textAt } from "../json.ts";
import { AGE, column, NAME, orNone } from "../table/columns.ts";
import type { Kind } from "./kind.ts";

const ROLE = "node-role.kubernetes.io/";

function condition(node: KubeObject): string {
  const ready = listAt(node, "status", "conditions").find((c) => own(c, "type") === "Ready");
  const status = ready === undefined ? "Unknown" : own(ready, "status") === "True" ? "Ready" : "NotReady";
  return at(node, "spec", "unschedulable") === true ? `${status},SchedulingDisabled` : status;
}

function roles(node: KubeObject): string {
  const found = new Set<string>();
  for (const [key, value] of Object.entries(node.metadata.labels ?? {})) {
    if (key.startsWith(ROLE) && key.length > ROLE.length) found.add(key.slice(ROLE.length));
    else if (key === "kubernetes.io/role" && value) found.add(value);
  }
  return orNone([...found].sort().join(","));
}

function address(type: string) {
  return (node: KubeObject) => {
    const found = listAt(node, "status", "addresses").filter((a) => own(a, "type") === type);
    return orNone(found.map((a) => textAt(a, "address")).join(","));
  };
}

const info = (field: string) => (node: KubeObject) =>
  textAt(node, "status", "nodeInfo", field) || "<unknown>";

function prefixErrors(node: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const check = (text: unknown, field: string) => {
    if (typeof text !== "string" || text === "") return;
    try {
      parsePrefix(text);
    } catch (thrown) {
      errors.push(invalidValue(field, text, (thrown as { detail?: string }).detail ?? "not a CIDR"));
    }
  };
  check(at(node, "spec", "podCIDR"), "spec.podCIDR");
  for (const [i, text] of listAt(node, "spec", "podCIDRs").entries()) check(text, `spec.podCIDRs[${i}]`);
  return errors;
}

export const NODE: Kind = {
  group: "",
  version: "v1",
  kind: "Node",
  plural: "nodes",
  singular: "node",
  shortNames: ["no"],
  namespaced: false,
  model: "V1Node",
  description: "Node is a host that runs pods and the agent.",
  status: true,
  statusOnCreate: true,
  fields: ["spec.unschedulable"],
  columns: [
    NAME,
    column("Status", condition),
    column("Roles", roles),
    AGE,
    column("Version", (n) => textAt(n, "status", "nodeInfo", "kubeletVersion")),
    column("Internal-IP", address("InternalIP"), { priority: 1 }),
    column("External-IP", address("ExternalIP"), { priority: 1 }),
    column("OS-Image", info("osImage"), { priority: 1 }),
    column("Kernel-Version", info("kernelVersion"), { priority: 1 }),
    column("Container-Runtime", info("containerRuntimeVersion"), { priority: 1 }),
  ],
  prepare(node) {
    // podCIDR is the first of podCIDRs; either may be given.
    node.spec ??= {};
    const spec = node.spec as { podCIDR?: string; podCIDRs?: string[] };
    if (spec.podCIDRs?.[0]) spec.podCIDR = spec.podCIDRs[0];
    else if (spec.podCIDR) spec.podCIDRs = [spec.podCIDR];
    return undefined;
  },
  validate: prefixErrors,
};
