// SPDX-License-Identifier: Apache-2.0
// Codes of the route engine: nodes that cannot be routed to, devices that are not there.
import { defineFaults } from "../../base/fault.ts";

export const faults = defineFaults({
  NODE_WITHOUT_ADDRESS: {
    text: (c) => `Node ${c.node}: no InternalIP of the family of its pod range ${c.cidr}`,
  },
  NODE_NOT_ON_LINK: {
    text: (c) =>
      `Node ${c.node}: ${c.gateway} is on no subnet of this node, so no direct route to ${c.cidr} can be written`,
  },
  POD_CIDR_TWICE: { text: (c) => `Node ${c.node}: its pod range ${c.cidr} belongs to another node already` },
  NO_NATIVE_DEVICE: {
    text: (c) => `devices: ${c.why}`,
    retriable: true,
  },
  DEVICE_NOT_FOUND: { text: (c) => `devices: no device is called "${c.pattern}"`, retriable: true },
  DEVICE_WITHOUT_ADDRESS: {
    text: (c) => `device ${c.device}: no global IPv${c.family} address, so nothing can be masqueraded to it`,
    retriable: true,
  },
});
