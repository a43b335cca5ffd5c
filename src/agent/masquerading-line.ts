// SPDX-License-Identifier: Apache-2.0
// The text after `Masquerading:` in `status`, as Cilium prints it (pkg/client/client.go): users and their scripts read
// it. Two slots for exclusion CIDRs, one per family, an empty one staying empty.

export interface MasqueradingFacts {
  /** Whether anything is masqueraded at all; counts only where the families are not told apart. */
  readonly enabled: boolean;
  readonly protocols?: { readonly ipv4: boolean; readonly ipv6: boolean };
  readonly mode: "bpf" | "iptables";
  readonly ipMasqAgent: boolean;
  /** Devices of the kube-proxy replacement; without a word about that Cilium prints neither them nor the CIDRs. */
  readonly devices?: readonly string[];
  readonly exclusions: readonly [ipv4: string, ipv6: string];
}

const word = (on: boolean): string => (on ? "Enabled" : "Disabled");

function bpf({ ipMasqAgent, devices, exclusions }: MasqueradingFacts): string {
  const name = ipMasqAgent ? "BPF (ip-masq-agent)" : "BPF";
  return devices === undefined ? name : `${name}\t[${devices.join(", ")}]\t${exclusions.join(" ")}`;
}

/**
 * One of `Disabled`, `Enabled`, `IPTables [IPv4: Enabled, IPv6: Disabled]`,
 * `BPF<TAB>[eth0]<TAB>10.0.0.0/8 fd00::/48 [IPv4: Enabled, IPv6: Enabled]`, the last also with ` (ip-masq-agent)`.
 */
export function masqueradingLine(facts: MasqueradingFacts): string {
  const { enabled, protocols, mode } = facts;
  if (protocols === undefined) return word(enabled);
  if (!protocols.ipv4 && !protocols.ipv6) return "Disabled";
  const who = mode === "bpf" ? bpf(facts) : "IPTables";
  return `${who} [IPv4: ${word(protocols.ipv4)}, IPv6: ${word(protocols.ipv6)}]`;
}
