// SPDX-License-Identifier: Apache-2.0
// Which devices of the node are native (carry from_net and to_net) and which of their addresses masquerading uses,
// from the `devices` option or, if it is empty, from the default routes and the node's own addresses. Pure.
import { type Address, type Family, familyOf, NO_ADDRESS } from "../../base/addr.ts";
import type { Fault } from "../../base/fault.ts";
import { isPodDevice } from "../endpoint/plan.ts";
import type { Link, NetworkFacts } from "./facts.ts";
import { faults } from "./faults.ts";
import type { DeviceSpec } from "./spec.ts";

export interface NativeDevice {
  readonly ifindex: number;
  readonly name: string;
  readonly mtu: number;
  readonly layer3: boolean;
  /** Masquerade addresses; NO_ADDRESS if there is none of the family. */
  readonly addr4: Address;
  readonly addr6: Address;
  /** Why there is none, for the families that are on and lack one. */
  readonly lacks: Readonly<Partial<Record<Family, string>>>;
  /** What the stack routes by a pod's address may be due elsewhere: NetworkFacts.rulesBySource. */
  readonly bySource: boolean;
  /**
   * It is the only one, and no route depends on a packet's source port (NetworkFacts.routesBySourcePort). Then a first packet may
   * go the way of another a moment ago: were that another by now, its flow would still have the right address.
   */
  readonly oneWay: boolean;
}

export interface DevicePlan {
  readonly devices: readonly NativeDevice[];
  readonly faults: readonly Fault[];
}

const isWildcard = (pattern: string): boolean => /[+*]$/.test(pattern);

/** `eth+` and `eth*` match every name that begins with eth; anything else matches itself. */
export function matchesDevice(pattern: string, name: string): boolean {
  return isWildcard(pattern) ? name.startsWith(pattern.slice(0, -1)) : pattern === name;
}

/** A wildcard does not mean ports of a bond or bridge, whose packets and addresses are the master's. */
const isMeant = (pattern: string, link: Link): boolean =>
  matchesDevice(pattern, link.name) && (link.master === 0 || !isWildcard(pattern));

/**
 * Order of choice: 1. the node's InternalIP if one of these devices has it; 2. their first primary global address that is
 * not unique-local (RFC 4193), since the far side could not answer to one; 3. their first primary global address.
 */
function addressOf(links: readonly Link[], family: Family, nodeAddresses: readonly Address[]): Address {
  const own = links.flatMap((link) =>
    link.addresses.filter((a) => a.scope === "global" && familyOf(a.address) === family),
  );
  const internal = nodeAddresses.find((wanted) => own.some((a) => a.address === wanted));
  if (internal !== undefined) return internal;
  const primary = own.filter((a) => !a.secondary);
  const routable = primary.find((a) => !/^f[cd]/.test(a.address));
  return (routable ?? primary[0] ?? own[0])?.address ?? NO_ADDRESS;
}

/**
 * The device's own address; for one without, as on nodes that announce an address of lo by BGP over unnumbered links, the
 * loopback device's, as the kernel chooses for the node's own packets.
 */
function masqueradeAddress(link: Link, family: Family, spec: DeviceSpec, facts: NetworkFacts): Address {
  const own = addressOf([link], family, spec.nodeAddresses);
  if (own !== NO_ADDRESS || link.tentative.some((a) => familyOf(a) === family)) return own;
  return addressOf(
    facts.links.filter((l) => l.loopback),
    family,
    spec.nodeAddresses,
  );
}

function whyNone(link: Link, family: Family): string {
  const tentative = link.tentative.find((a) => familyOf(a) === family);
  if (tentative !== undefined) return `${tentative} is still checked for duplicates`;
  const down = link.up ? "" : ", the device is down";
  const others = link.addresses.filter((a) => familyOf(a.address) === family);
  if (others.length === 0) return `no IPv${family} address${down}`;
  return `no global IPv${family} address, only ${others.map((a) => a.address).join(", ")}${down}`;
}

/** Down ones too: a device that comes up must have its programs already. */
function candidates(facts: NetworkFacts): Link[] {
  return facts.links.filter((link) => !link.loopback && !isPodDevice(link.name));
}

function nativeDevice(link: Link, spec: DeviceSpec, facts: NetworkFacts, alone: boolean): NativeDevice {
  const addr4 = spec.ipv4 ? masqueradeAddress(link, 4, spec, facts) : NO_ADDRESS;
  const addr6 = spec.ipv6 ? masqueradeAddress(link, 6, spec, facts) : NO_ADDRESS;
  return {
    ifindex: link.ifindex,
    name: link.name,
    mtu: link.mtu,
    layer3: link.layer3,
    addr4,
    addr6,
    lacks: {
      ...(spec.ipv4 && addr4 === NO_ADDRESS ? { 4: whyNone(link, 4) } : {}),
      ...(spec.ipv6 && addr6 === NO_ADDRESS ? { 6: whyNone(link, 6) } : {}),
    },
    bySource: facts.rulesBySource,
    oneWay: alone && !facts.routesBySourcePort,
  };
}

function chooseByPattern(patterns: readonly string[], links: Link[]): { chosen: Link[]; found: Fault[] } {
  const found: Fault[] = [];
  for (const pattern of patterns) {
    if (!links.some((link) => isMeant(pattern, link))) {
      found.push(faults.DEVICE_NOT_FOUND({ pattern }));
    }
  }
  return { chosen: links.filter((link) => patterns.some((pattern) => isMeant(pattern, link))), found };
}

function chooseByRoute(facts: NetworkFacts, links: Link[], nodeAddresses: readonly Address[]): Link[] {
  const byDefault = new Set(facts.routes.filter((r) => r.destination.length === 0).map((r) => r.ifindex));
  return links.filter(
    (link) =>
      link.master === 0 &&
      (byDefault.has(link.ifindex) || link.addresses.some((a) => nodeAddresses.includes(a.address))),
  );
}

/** The native devices, in the order of their indexes, and what is wrong with the choice. */
export function planDevices(spec: DeviceSpec, facts: NetworkFacts): DevicePlan {
  const links = candidates(facts);
  const { chosen, found } =
    spec.patterns.length > 0
      ? chooseByPattern(spec.patterns, links)
      : { chosen: chooseByRoute(facts, links, spec.nodeAddresses), found: [] as Fault[] };
  if (chosen.length === 0 && spec.patterns.length === 0) {
    found.push(
      faults.NO_NATIVE_DEVICE({
        why: "no device holds a default route or the node's InternalIP: set devices",
      }),
    );
  }
  const alone = chosen.length === 1;
  const devices = chosen
    .sort((a, b) => a.ifindex - b.ifindex)
    .map((link) => nativeDevice(link, spec, facts, alone));
  const lacking = (family: Family, pick: (d: NativeDevice) => Address): void => {
    if (devices.length === 0 || devices.some((d) => pick(d) !== NO_ADDRESS)) return;
    const device = devices.map((d) => d.name).join(", ");
    found.push(faults.DEVICE_WITHOUT_ADDRESS({ device, family }));
  };
  if (spec.ipv4) lacking(4, (d) => d.addr4);
  if (spec.ipv6) lacking(6, (d) => d.addr6);
  return { devices, faults: found };
}
