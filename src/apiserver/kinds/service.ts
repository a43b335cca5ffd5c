// SPDX-License-Identifier: Apache-2.0
// Service and EndpointSlice: columns, defaults and checks of ports and addresses.
import { parseAddress } from "../../base/addr.ts";
import { duplicateValue, type FieldError, invalidValue, requiredValue } from "../faults.ts";
import { isObject, type JsonObject, type KubeObject, listAt, own, textAt } from "../json.ts";
import { label1035Name } from "../names.ts";
import { AGE, column, NAME, orNone } from "../table/columns.ts";
import type { Kind } from "./kind.ts";

function externalIp(service: KubeObject): string {
  const type = textAt(service, "spec", "type");
  if (type === "ExternalName") return orNone(textAt(service, "spec", "externalName"));
  const ingress = listAt(service, "status", "loadBalancer", "ingress").map(
    (i) => textAt(i, "ip") || textAt(i, "hostname"),
  );
  const all = [...ingress, ...listAt(service, "spec", "externalIPs").map(String)];
  if (all.length > 0) return all.join(",");
  return type === "LoadBalancer" ? "<pending>" : "<none>";
}

function ports(service: KubeObject): string {
  const texts = listAt(service, "spec", "ports").map((p) => {
    const node = own(p, "nodePort");
    return `${own(p, "port")}${node ? `:${node}` : ""}/${textAt(p, "protocol") || "TCP"}`;
  });
  return orNone(texts.join(","));
}

function selector(service: KubeObject): string {
  const labels = own(service.spec, "selector");
  return orNone(
    Object.entries(isObject(labels) ? labels : {})
      .map(([k, v]) => `${k}=${v}`)
      .join(","),
  );
}

function defaults(service: KubeObject): void {
  service.spec ??= {};
  const spec = service.spec as JsonObject;
  spec.type ??= "ClusterIP";
  spec.sessionAffinity ??= "None";
  if (spec.type !== "ExternalName") spec.internalTrafficPolicy ??= "Cluster";
  if (spec.type === "NodePort" || spec.type === "LoadBalancer") spec.externalTrafficPolicy ??= "Cluster";
  if (spec.type === "LoadBalancer") spec.allocateLoadBalancerNodePorts ??= true;
  for (const port of listAt(spec, "ports")) {
    if (!isObject(port)) continue;
    port.protocol ??= "TCP";
    port.targetPort ??= port.port;
  }
  service.status ??= { loadBalancer: {} };
}

const PROTOCOLS = ["TCP", "UDP", "SCTP"];
const TYPES = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];

function validate(service: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const type = textAt(service, "spec", "type");
  if (!TYPES.includes(type))
    errors.push(invalidValue("spec.type", type, `must be one of ${TYPES.join(", ")}`));
  const list = listAt(service, "spec", "ports");
  if (list.length === 0 && type !== "ExternalName" && textAt(service, "spec", "clusterIP") !== "None") {
    errors.push(requiredValue("spec.ports"));
  }
  const seen = new Set<string>();
  for (const [i, port] of list.entries()) {
    const path = `spec.ports[${i}]`;
    const number = Number(own(port, "port"));
    const protocol = textAt(port, "protocol");
    if (number < 1 || number > 65535)
      errors.push(invalidValue(`${path}.port`, number, "must be between 1 and 65535"));
    if (!PROTOCOLS.includes(protocol)) {
      errors.push(invalidValue(`${path}.protocol`, protocol, `must be one of ${PROTOCOLS.join(", ")}`));
    }
    if (list.length > 1 && !textAt(port, "name"))
      errors.push(requiredValue(`${path}.name`, "several ports need names"));
    const identity = `${protocol}/${number}`;
    if (seen.has(identity)) errors.push(duplicateValue(path, identity));
    seen.add(identity);
  }
  return errors;
}

export const SERVICE: Kind = {
  group: "",
  version: "v1",
  kind: "Service",
  plural: "services",
  singular: "service",
  shortNames: ["svc"],
  categories: ["all"],
  namespaced: true,
  model: "V1Service",
  description: "Service is a name and an address in front of a set of pods.",
  status: true,
  fields: ["spec.clusterIP", "spec.type"],
  name: label1035Name,
  columns: [
    NAME,
    column("Type", (s) => textAt(s, "spec", "type")),
    column("Cluster-IP", (s) => orNone(textAt(s, "spec", "clusterIP"))),
    column("External-IP", externalIp),
    column("Port(s)", ports),
    AGE,
    column("Selector", selector, { priority: 1 }),
  ],
  prepare(service, old, world) {
    defaults(service);
    return world.allocateService(service, old);
  },
  validate,
};

const FAMILIES: Record<string, number> = { IPv4: 4, IPv6: 6 };

function sliceErrors(slice: KubeObject): FieldError[] {
  const type = textAt(slice, "addressType");
  if (type !== "FQDN" && !Object.hasOwn(FAMILIES, type)) {
    return [invalidValue("addressType", type, "must be one of IPv4, IPv6, FQDN")];
  }
  const errors: FieldError[] = [];
  for (const [i, endpoint] of listAt(slice, "endpoints").entries()) {
    const addresses = listAt(endpoint, "addresses");
    if (addresses.length === 0) errors.push(requiredValue(`endpoints[${i}].addresses`));
    for (const [j, text] of addresses.entries()) {
      const why = type === "FQDN" ? undefined : addressError(String(text), FAMILIES[type] as number);
      if (why) errors.push(invalidValue(`endpoints[${i}].addresses[${j}]`, text, why));
    }
  }
  return errors.slice(0, 20);
}

function addressError(text: string, family: number): string | undefined {
  try {
    parseAddress(text);
  } catch {
    return "not an IP address";
  }
  return text.includes(":") === (family === 6) ? undefined : `not an IPv${family} address`;
}

const short = (values: string[], limit: number) =>
  values.length > limit
    ? `${values.slice(0, limit).join(",")} + ${values.length - limit} more...`
    : values.join(",");

export const ENDPOINT_SLICE: Kind = {
  group: "discovery.k8s.io",
  version: "v1",
  kind: "EndpointSlice",
  plural: "endpointslices",
  singular: "endpointslice",
  namespaced: true,
  model: "V1EndpointSlice",
  description: "EndpointSlice is a part of the addresses behind a Service.",
  generation: true,
  columns: [
    NAME,
    column("AddressType", (s) => textAt(s, "addressType")),
    column(
      "Ports",
      (s) =>
        short(
          listAt(s, "ports").map((p) => String(own(p, "port") ?? "*")),
          3,
        ) || "<unset>",
    ),
    column(
      "Endpoints",
      (s) =>
        short(
          listAt(s, "endpoints").flatMap((e) => listAt(e, "addresses").map(String)),
          3,
        ) || "<unset>",
    ),
    AGE,
  ],
  prepare(slice) {
    slice.endpoints ??= [];
    for (const port of listAt(slice, "ports")) {
      if (!isObject(port)) continue;
      port.protocol ??= "TCP";
      port.name ??= "";
    }
    return undefined;
  },
  validate: sliceErrors,
};
