// SPDX-License-Identifier: Apache-2.0
// The text after `Masquerading:` in `status`, as Cilium prints it (pkg/client/client.go): users and their scripts read
// it. Two slots for exclusion CIDRs, one per family, an empty one staying empty.

export interface MasqueradingFacts {
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  readonly devices: readonly string[];
  /** Cilium prints the device list only beside its kube-proxy replacement. */
  readonly withDevices: boolean;
  readonly nativeRoutingCidr4: string;
  readonly nativeRoutingCidr6: string;
  readonly ipMasqAgent: boolean;
}

const word = (on: boolean): string => (on ? "Enabled" : "Disabled");

/** `BPF<TAB>[eth0]<TAB>10.0.0.0/8 fd00::/48 [IPv4: Enabled, IPv6: Enabled]`, or `Disabled`. */
export function masqueradingLine(facts: MasqueradingFacts): string {
  if (!facts.ipv4 && !facts.ipv6) return "Disabled";
  const mode = facts.ipMasqAgent ? "BPF (ip-masq-agent)" : "BPF";
  const devices = facts.withDevices ? `\t[${facts.devices.join(", ")}]` : "";
  const cidrs = `${facts.nativeRoutingCidr4} ${facts.nativeRoutingCidr6}`;
  return `${mode}${devices}\t${cidrs} [IPv4: ${word(facts.ipv4)}, IPv6: ${word(facts.ipv6)}]`;
}
