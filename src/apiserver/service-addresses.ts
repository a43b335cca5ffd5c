// SPDX-License-Identifier: Apache-2.0
// Cluster addresses and node ports of Services, handed out as the real server does: one address per wanted family from
// the service CIDRs, one port per service port from the node port range; what a client names is taken if it is free.
import { parseAddress } from "../base/addr.ts";
import { type FieldError, invalidValue } from "./faults.ts";
import { isObject, type JsonObject, type KubeObject, listAt, own, textAt } from "./json.ts";

const PORTS = { first: 30000, last: 32767 };
/** Addresses tried beyond the last one handed out before the range counts as full. */
const RANGE = 4096;

/** First addresses of the ranges, the network part with a host part of 0. */
export interface ServiceRanges {
  IPv4: string;
  IPv6: string;
}

export const DEFAULT_SERVICE_RANGES: ServiceRanges = { IPv4: "10.96.0.0", IPv6: "fd00:10:96::" };

type Family = keyof ServiceRanges;

/** Fills in `clusterIPs`, families and node ports of `service`, given all Services there are. */
export function allocateService(
  service: KubeObject,
  old: KubeObject | undefined,
  all: readonly KubeObject[],
  ranges: ServiceRanges = DEFAULT_SERVICE_RANGES,
): FieldError[] {
  const spec = service.spec as JsonObject;
  const others = all.filter((s) => s.metadata.uid !== service.metadata.uid);
  if (spec.type === "ExternalName") {
    for (const field of ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"]) delete spec[field];
    return [];
  }
  const errors = allocateAddresses(spec, old, others, ranges);
  return [...errors, ...allocatePorts(spec, old, others)];
}

function allocateAddresses(
  spec: JsonObject,
  old: KubeObject | undefined,
  others: KubeObject[],
  ranges: ServiceRanges,
): FieldError[] {
  const before = listAt(old, "spec", "clusterIPs").map(String);
  const wanted = listAt(spec, "clusterIPs").map(String);
  if (wanted.length === 0) wanted.push(...(spec.clusterIP ? [String(spec.clusterIP)] : before));
  if (wanted[0] === "None") {
    Object.assign(spec, { clusterIP: "None", clusterIPs: ["None"] });
    spec.ipFamilies ??= ["IPv4"];
    spec.ipFamilyPolicy ??= "SingleStack";
    return [];
  }
  const taken = new Set(others.flatMap((s) => listAt(s, "spec", "clusterIPs").map(String)));
  for (const [i, address] of wanted.entries()) {
    const field = `spec.clusterIPs[${i}]`;
    try {
      parseAddress(address);
    } catch {
      return [invalidValue(field, address, "not an IP address")];
    }
    if (taken.has(address)) return [invalidValue(field, address, "provided IP is already allocated")];
  }
  const families = familiesOf(spec, wanted);
  for (const family of families) {
    if (wanted.some((address) => familyOf(address) === family)) continue;
    const address = freeAddress(ranges[family], taken);
    if (!address) return [invalidValue("spec.clusterIPs", wanted, `the ${family} service range is full`)];
    wanted.push(address);
  }
  wanted.sort((a, b) => families.indexOf(familyOf(a)) - families.indexOf(familyOf(b)));
  Object.assign(spec, { clusterIP: wanted[0], clusterIPs: wanted, ipFamilies: families });
  spec.ipFamilyPolicy ??= "SingleStack";
  return [];
}

const familyOf = (address: string): Family => (address.includes(":") ? "IPv6" : "IPv4");

function familiesOf(spec: JsonObject, wanted: string[]): Family[] {
  const asked = listAt(spec, "ipFamilies").filter((f): f is Family => f === "IPv4" || f === "IPv6");
  const families = asked.length > 0 ? asked : [...new Set(wanted.map(familyOf))];
  if (families.length === 0) families.push("IPv4");
  const policy = textAt(spec, "ipFamilyPolicy");
  if ((policy === "PreferDualStack" || policy === "RequireDualStack") && families.length === 1) {
    families.push(families[0] === "IPv4" ? "IPv6" : "IPv4");
  }
  return policy === "SingleStack" ? families.slice(0, 1) : families;
}

function freeAddress(base: string, taken: Set<string>): string | undefined {
  const network = base.includes(":") ? base : base.slice(0, base.lastIndexOf(".", base.lastIndexOf(".") - 1));
  // .1 is where clusters put the API server's own Service.
  for (let host = 2; host < RANGE + taken.size; host++) {
    const text = base.includes(":")
      ? `${network}${host.toString(16)}`
      : `${network}.${host >> 8}.${host & 255}`;
    const address = parseAddress(text);
    if (!taken.has(address)) return address;
  }
  return undefined;
}

function allocatePorts(spec: JsonObject, old: KubeObject | undefined, others: KubeObject[]): FieldError[] {
  const ports = listAt(spec, "ports").filter(isObject);
  const external =
    spec.type === "NodePort" ||
    (spec.type === "LoadBalancer" && spec.allocateLoadBalancerNodePorts !== false);
  if (!external) {
    for (const port of ports) delete port.nodePort;
    return [];
  }
  const identity = (port: unknown) => `${own(port, "protocol")}/${own(port, "port")}`;
  const before = new Map(listAt(old, "spec", "ports").map((p) => [identity(p), own(p, "nodePort")]));
  const taken = new Set(others.flatMap((s) => listAt(s, "spec", "ports").map((p) => own(p, "nodePort"))));
  const errors: FieldError[] = [];
  let next = PORTS.first;
  for (const [i, port] of ports.entries()) {
    port.nodePort ??= before.get(identity(port));
    if (port.nodePort === undefined) {
      while (taken.has(next) && next < PORTS.last) next += 1;
      port.nodePort = next;
    }
    const number = Number(port.nodePort);
    const field = `spec.ports[${i}].nodePort`;
    if (number < PORTS.first || number > PORTS.last) {
      errors.push(invalidValue(field, number, `must be between ${PORTS.first} and ${PORTS.last}`));
    } else if (taken.has(number))
      errors.push(invalidValue(field, number, "provided port is already allocated"));
    taken.add(number);
  }
  return errors;
}
