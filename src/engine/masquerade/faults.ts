// SPDX-License-Identifier: Apache-2.0
// Codes of the masquerade engine: netfilter that cannot be written.
import { defineFaults } from "../../base/fault.ts";

export const faults = defineFaults({
  NO_IPTABLES: {
    text: (c) => `masquerading by iptables cannot be: ${c.why}; install the package iptables`,
    retriable: true,
  },
  RULES_NOT_TAKEN: {
    text: (c) => `${c.program} chain ${c.chain}: ${c.count} of ${c.rules} rules are there after writing them`,
    retriable: true,
  },
});
