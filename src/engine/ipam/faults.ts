// SPDX-License-Identifier: Apache-2.0
// Codes of address management: pod CIDRs that cannot serve, pools that ran out, state that cannot be read.
import { defineFaults } from "../../base/fault.ts";

export const faults = defineFaults({
  IPAM_CIDR_TOO_SMALL: {
    text: (c) => `pod CIDR ${c.cidr}: no address left for pods; the first one is the router's`,
  },
  IPAM_CIDR_OVERLAP: { text: (c) => `pod CIDRs ${c.first} and ${c.second} overlap` },
  IPAM_NO_CIDR: {
    text: () => "this node has no pod CIDR yet; set spec.podCIDRs of its Node object",
    retriable: true,
  },
  IPAM_EXHAUSTED: {
    text: (c) =>
      `no free IPv${c.family} address in ${c.cidrs}: ${c.inUse} of ${c.usable} in use` +
      `${c.outside ? `, ${c.outside} more outside these CIDRs` : ""}; delete pods or add a pod CIDR to the node`,
    retriable: true,
  },
  IPAM_ADDRESS_TAKEN: { text: (c) => `${c.address}: wanted by ${c.wanted}, held by ${c.held}` },
  IPAM_STATE: { text: (c) => `saved address state: ${c.path}: ${c.why}` },
});
